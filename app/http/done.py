"""What a change answers when there is nothing else to say."""

from typing import Literal

from pydantic import BaseModel


class Done(BaseModel):
    """It is done."""

    message: Literal["successfully"] = "successfully"
