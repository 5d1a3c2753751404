"""The answer of a change that returns no data."""

from typing import Literal

from pydantic import BaseModel


class Done(BaseModel):
    """It is done."""

    message: Literal["successfully"] = "successfully"
