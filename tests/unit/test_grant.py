"""Grants: what a caller may see and do."""

from dataclasses import replace

import pytest

from app.access.grant import NOBODY, Grant, Reach
from app.access.scopes import ALL_SCOPES, Scope
from app.addressing import Domain, Extension, MailboxAddress
from app.errors import Forbidden, Invalid, NotFound

A, B, C = Domain("a.example"), Domain("b.example"), Domain("c.example")
SOME = Grant("some", frozenset({A, B}), A, frozenset({Scope.MAILBOX_READ}))
EVERYTHING = Grant.everything("all", A)


@pytest.mark.parametrize("asked", [None, ""])
def test_a_call_that_names_no_domain_is_about_the_default_one(asked: str | None) -> None:
    assert SOME.domain(asked) == A
    assert EVERYTHING.domain(asked) == A


def test_a_call_may_name_another_domain_of_the_grant() -> None:
    assert SOME.domain("b.example") == B
    assert EVERYTHING.domain("c.example") == C


def test_a_domain_that_may_not_be_seen_is_as_absent_as_the_thing_in_it() -> None:
    with pytest.raises(NotFound) as foreign:
        SOME.domain("c.example", absent="there is no such mailbox")
    with pytest.raises(NotFound) as nowhere:
        SOME.domain("nowhere.example", absent="there is no such mailbox")

    assert foreign.value.detail == nowhere.value.detail == "there is no such mailbox"


def test_a_look_up_reaches_the_default_domain_or_the_named_one_or_all_of_them() -> None:
    assert SOME.reach() == Reach(frozenset({A}))
    assert SOME.reach("b.example", Extension("101")) == Reach(frozenset({B}), Extension("101"))
    assert SOME.reach("*") == Reach(frozenset({A, B}))
    assert EVERYTHING.reach("*") == Reach(None)
    with pytest.raises(NotFound):
        SOME.reach("c.example")


def test_a_grant_of_one_mailbox_reaches_that_and_nothing_else() -> None:
    own = MailboxAddress(Extension("101"), A)
    grants = [replace(SOME, mailbox=own), replace(EVERYTHING, mailbox=own)]

    for grant in grants:
        assert grant.reach() == grant.reach("*") == grant.reach(None, Extension("101")) == Reach(frozenset({A}), Extension("101"))
        assert grant.reach(None, Extension("102")) == Reach(frozenset(), Extension("102"))
        assert grant.reach("b.example") == Reach(frozenset(), Extension("101"))


@pytest.mark.parametrize("text", ["*", "a b", "a.example\n", "../a", "a.example\x00", "x" * 254, "🎉", "A.EXAMPLE\r\nX: 1"])
def test_what_cannot_be_a_domain_is_said_to_be_wrong(text: str) -> None:
    for grant in (SOME, EVERYTHING):
        with pytest.raises(Invalid):
            grant.domain(text)


def test_capitals_make_another_domain() -> None:
    with pytest.raises(NotFound):
        SOME.domain("A.example")


def test_a_default_domain_that_is_not_in_the_grant_is_not_seen() -> None:
    with pytest.raises(NotFound):
        Grant("odd", frozenset({A}), C, ALL_SCOPES).domain()


def test_a_star_is_every_domain_of_the_grant() -> None:
    assert SOME.domains_for("*") == {A, B}
    assert EVERYTHING.domains_for("*") is None
    assert SOME.domains_for("b.example") == {B}
    assert SOME.domains_for(None) == {A}
    assert EVERYTHING.domains_for(None) == {A}
    with pytest.raises(NotFound):
        SOME.domains_for("c.example")


def test_a_missing_scope_is_named() -> None:
    SOME.require(Scope.MAILBOX_READ)
    with pytest.raises(Forbidden) as refused:
        SOME.require(Scope.MAILBOX_WRITE)

    assert refused.value.scope == Scope.MAILBOX_WRITE
    assert "mailbox:write" in refused.value.detail


def test_admin_is_a_scope_like_any_other() -> None:
    admin = Grant("admin", None, A, frozenset({Scope.ADMIN}))

    assert admin.has(Scope.ADMIN)
    assert not admin.has(Scope.MAILBOX_READ)


def test_a_grant_for_one_mailbox_sees_no_other() -> None:
    one, other = (MailboxAddress(Extension(extension), A) for extension in ("101", "102"))
    same_number = MailboxAddress(Extension("101"), B)
    grant = Grant("owner", frozenset({A}), A, ALL_SCOPES, mailbox=one)

    assert grant.sees(one)
    assert not grant.sees(other)
    assert not grant.sees(same_number)
    assert SOME.sees(same_number)
    assert not SOME.sees(MailboxAddress(Extension("101"), C))


def test_nobody_sees_and_may_nothing() -> None:
    assert not NOBODY.allows(A)
    assert not NOBODY.allows("")
    assert NOBODY.domains_for("*") == frozenset()
    with pytest.raises(NotFound):
        NOBODY.domain()
    for scope in Scope:
        with pytest.raises(Forbidden):
            NOBODY.require(scope)


def test_a_grant_covers_its_own_domains_and_fewer() -> None:
    assert SOME.covers(frozenset({A}))
    assert not SOME.covers(frozenset({A, C}))
    assert not SOME.covers(None)
    assert EVERYTHING.covers(None)
    assert EVERYTHING.covers(frozenset({C}))


def test_the_names_of_scopes_are_the_contract_s() -> None:
    assert set(Scope) == {
        "mailbox:read", "mailbox:write", "pin:read", "message:read", "message:audio", "message:write", "notification:read",
        "notification:write", "event:read", "webhook:write", "admin",
    }  # fmt: skip
