"""Signatures: each scheme as its vendor publishes it, signed here by other code than that which checks it."""

import ast
import base64
import hashlib
import hmac
import inspect
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import standardwebhooks
from hypothesis import given
from hypothesis import strategies as st

from claude_runner.errors import InvalidError
from claude_runner.webhooks import (
    BadSignatureError,
    Signature,
    WebhookDraft,
    _signatures,
    delivery_key,
    verify,
)
from tests.support import MORNING

BODY = b'{"id": "evt_1", "text": "\xc3\xbc"}'
SECRET = "it's a secret to everybody"
STANDARD_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
AT = str(int(MORNING.timestamp()))

Signed = Mapping[str, str]


def digest(secret: str, data: bytes) -> "hmac.HMAC":
    return hmac.new(secret.encode(), data, hashlib.sha256)


def github(secret: str = SECRET, body: bytes = BODY) -> Signed:
    """https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries"""
    return {"X-Hub-Signature-256": "sha256=" + digest(secret, body).hexdigest()}


def stripe(secret: str = SECRET, body: bytes = BODY, at: str = AT) -> Signed:
    """https://docs.stripe.com/webhooks#verify-manually"""
    return {"Stripe-Signature": f"t={at},v1={digest(secret, f'{at}.'.encode() + body).hexdigest()}"}


def slack(secret: str = SECRET, body: bytes = BODY, at: str = AT) -> Signed:
    """https://api.slack.com/authentication/verifying-requests-from-slack"""
    signature = "v0=" + digest(secret, b"v0:%s:%s" % (at.encode(), body)).hexdigest()
    return {"X-Slack-Request-Timestamp": at, "X-Slack-Signature": signature}


def gitlab(secret: str = SECRET) -> Signed:
    """https://docs.gitlab.com/user/project/integrations/webhooks/#validate-requests-by-using-a-secret-token"""
    return {"X-Gitlab-Token": secret}


def shopify(secret: str = SECRET, body: bytes = BODY) -> Signed:
    """https://shopify.dev/docs/apps/build/webhooks/subscribe/https"""
    return {"X-Shopify-Hmac-Sha256": base64.b64encode(digest(secret, body).digest()).decode()}


def standard(secret: str = STANDARD_SECRET, body: bytes = BODY, at: str = AT) -> Signed:
    """The library of https://www.standardwebhooks.com itself."""
    sent = datetime.fromtimestamp(int(at), tz=UTC)
    signature = standardwebhooks.Webhook(secret).sign("msg_1", sent, body.decode())
    return {"webhook-id": "msg_1", "webhook-timestamp": at, "webhook-signature": signature}


SCHEMES: Mapping[Signature, Callable[..., Signed]] = {
    Signature.GITHUB: github,
    Signature.STRIPE: stripe,
    Signature.SLACK: slack,
    Signature.GITLAB: gitlab,
    Signature.SHOPIFY: shopify,
    Signature.STANDARD: standard,
}
TIMED = (Signature.STRIPE, Signature.SLACK, Signature.STANDARD)
OF_BODIES = tuple(scheme for scheme in Signature if scheme is not Signature.GITLAB)

each = pytest.mark.parametrize("scheme", Signature)


def secret_of(scheme: Signature) -> str:
    return STANDARD_SECRET if scheme is Signature.STANDARD else SECRET


def sent(headers: Signed) -> dict[bytes, bytes]:
    """Headers as a server gives them."""
    return {name.lower().encode(): value.encode("utf-8") for name, value in headers.items()}


def check(
    scheme: Signature, headers: Signed, body: bytes = BODY, now: datetime = MORNING, secret: str = ""
) -> None:
    verify(scheme, secret or secret_of(scheme), sent(headers), body, now)


def refusal(*given: Any, **more: Any) -> str:
    with pytest.raises(BadSignatureError) as error:
        check(*given, **more)
    assert (error.value.status, error.value.code) == (401, "bad_signature")
    return str(error.value)


def test_every_scheme_is_tested() -> None:
    assert set(SCHEMES) == set(Signature)


@each
def test_what_the_vendor_signs_is_let_in(scheme: Signature) -> None:
    check(scheme, SCHEMES[scheme]())


def test_the_examples_that_the_vendors_publish_are_let_in() -> None:
    hub = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    check(
        Signature.GITHUB, {"X-Hub-Signature-256": hub}, b"Hello, World!", secret="It's a Secret to Everybody"
    )
    example = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    headers = {"webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek", "webhook-timestamp": "1614265330"}
    now = datetime.fromtimestamp(1614265330, tz=UTC)
    check(Signature.STANDARD, headers | {"webhook-signature": example}, b'{"test": 2432232314}', now)


@each
def test_what_somebody_without_the_secret_signs_is_not(scheme: Signature) -> None:
    other = "whsec_" + base64.b64encode(b"another secret, as long").decode()
    said = refusal(scheme, SCHEMES[scheme](other if scheme is Signature.STANDARD else "another secret"))
    assert secret_of(scheme) not in said


@pytest.mark.parametrize("scheme", OF_BODIES)
@pytest.mark.parametrize("body", [b"", BODY + b" ", BODY[:-1], BODY.replace(b"1", b"2")])
def test_a_signature_is_of_its_body_alone(scheme: Signature, body: bytes) -> None:
    assert "does not fit" in refusal(scheme, SCHEMES[scheme](), body)


@each
def test_every_header_of_a_signature_is_asked_for(scheme: Signature) -> None:
    headers = SCHEMES[scheme]()
    for missing in headers:
        left = {name: value for name, value in headers.items() if name != missing}
        assert missing.lower() in refusal(scheme, left).lower()


@each
@pytest.mark.parametrize(
    "junk", ["", " ", "=", ",", "v1", "sha256=", "v1=", "v0=", "ü", "\x00", "t=,v1=", "x" * 5_000]
)
def test_junk_in_any_header_of_a_signature_is_refused(scheme: Signature, junk: str) -> None:
    headers = SCHEMES[scheme]()
    for name in headers:
        refusal(scheme, {**headers, name: junk})


@each
def test_a_signature_of_another_scheme_is_none(scheme: Signature) -> None:
    for other in set(Signature) - {scheme}:
        refusal(scheme, SCHEMES[other](secret_of(other)))


@pytest.mark.parametrize("scheme", OF_BODIES)
def test_a_part_of_a_signature_is_none(scheme: Signature) -> None:
    headers = SCHEMES[scheme]()
    name = next(name for name in headers if "sig" in name.lower() or "hmac" in name.lower())
    refusal(scheme, {**headers, name: headers[name][:-2]})
    refusal(scheme, {**headers, name: headers[name] + "0"})


def test_github_is_not_let_in_by_its_old_sha1() -> None:
    old = "sha1=" + hmac.new(SECRET.encode(), BODY, hashlib.sha1).hexdigest()
    refusal(Signature.GITHUB, {"X-Hub-Signature": old})
    refusal(Signature.GITHUB, {"X-Hub-Signature-256": old})


def test_stripes_test_scheme_lets_nothing_in() -> None:
    headers = {name: value.replace("v1=", "v0=") for name, value in stripe().items()}
    refusal(Signature.STRIPE, headers)


def test_standards_asymmetric_scheme_lets_nothing_in() -> None:
    headers = dict(standard())
    refusal(
        Signature.STANDARD,
        headers | {"webhook-signature": headers["webhook-signature"].replace("v1,", "v1a,")},
    )


# The time that is signed


@pytest.mark.parametrize("scheme", TIMED)
@pytest.mark.parametrize("seconds", [-300, -1, 0, 1, 300])
def test_a_clock_may_be_five_minutes_off(scheme: Signature, seconds: int) -> None:
    check(scheme, SCHEMES[scheme](), now=MORNING + timedelta(seconds=seconds))


@pytest.mark.parametrize("scheme", TIMED)
@pytest.mark.parametrize(("seconds", "said"), [(301, "301 seconds ago"), (-301, "301 seconds ahead")])
def test_what_was_signed_long_ago_or_ahead_is_refused(scheme: Signature, seconds: int, said: str) -> None:
    assert said in refusal(scheme, SCHEMES[scheme](), now=MORNING + timedelta(seconds=seconds))


@pytest.mark.parametrize("scheme", TIMED)
def test_the_time_is_signed_too(scheme: Signature) -> None:
    late = str(int(AT) + 3600)
    headers = {name: value.replace(AT, late) for name, value in SCHEMES[scheme]().items()}
    assert "does not fit" in refusal(scheme, headers, now=MORNING + timedelta(hours=1))


@pytest.mark.parametrize("scheme", TIMED)
@pytest.mark.parametrize(
    "at", ["", "-1", "1e9", "now", "٣", "9" * 13, "9" * 5_000, f"{AT}.0", f"+{AT}", "0x10"]
)
def test_a_time_that_is_none_is_refused(scheme: Signature, at: str) -> None:
    headers = {name: value.replace(AT, at) for name, value in SCHEMES[scheme]().items()}
    assert "no number of seconds" in refusal(scheme, headers)


def test_the_id_is_signed_too() -> None:
    assert "does not fit" in refusal(Signature.STANDARD, {**standard(), "webhook-id": "msg_2"})


# Secrets that are being exchanged


def test_stripe_may_sign_with_the_old_secret_and_the_new_one() -> None:
    old = stripe("the old secret")["Stripe-Signature"].partition("v1=")[2]
    new = stripe()["Stripe-Signature"].partition("v1=")[2]
    for pair in ((old, new), (new, old)):
        check(Signature.STRIPE, {"Stripe-Signature": f"t={AT},v1={pair[0]},v1={pair[1]},v0={'0' * 64}"})
        check(Signature.STRIPE, {"Stripe-Signature": f"v1={pair[0]}, v1={pair[1]}, t={AT}"})
    refusal(Signature.STRIPE, {"Stripe-Signature": f"t={AT},v1={old},v1={old}"})


def test_standard_may_sign_with_the_old_secret_and_the_new_one() -> None:
    old = standard("whsec_" + base64.b64encode(b"the secret that was before").decode())["webhook-signature"]
    new = standard()["webhook-signature"]
    for value in (f"{old} {new}", f"{new} {old}", f"v1a,AAAA {new}", f"junk {new}"):
        check(Signature.STANDARD, {**standard(), "webhook-signature": value})
    refusal(Signature.STANDARD, {**standard(), "webhook-signature": f"{old} {old}"})


@pytest.mark.parametrize("secret", [STANDARD_SECRET, STANDARD_SECRET.removeprefix("whsec_")])
def test_the_prefix_of_a_standard_secret_may_be_left_out(secret: str) -> None:
    check(Signature.STANDARD, standard(), secret=secret)


# How they are compared


def test_nothing_that_is_secret_is_compared_but_in_constant_time() -> None:
    """Where what was given meets what is expected there is no operator that ends at the first difference."""
    for name in ("_compare", "_gitlab", "_github", "_stripe", "_slack", "_shopify", "_standard"):
        tree = ast.parse(inspect.getsource(getattr(_signatures, name)))
        compared = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Compare)]
        assert [it for it in compared if it not in {"given is None", "name == 't'", "name == 'v1'"}] == []
    asked = [
        name
        for name in ("_compare", "_gitlab")
        if "compare_digest" in inspect.getsource(getattr(_signatures, name))
    ]
    assert asked == ["_compare", "_gitlab"]


def test_each_of_several_signatures_is_looked_at_whichever_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    real = hmac.compare_digest

    def watched(one: bytes, other: bytes) -> bool:
        looked.append(one)
        return real(one, other)

    monkeypatch.setattr(hmac, "compare_digest", watched)
    right = stripe()["Stripe-Signature"].partition("v1=")[2]
    check(Signature.STRIPE, {"Stripe-Signature": f"t={AT},v1={right},v1=a,v1=b"})
    assert looked == [right.encode(), b"a", b"b"]


@given(
    st.binary(max_size=60),
    st.dictionaries(st.sampled_from(sorted({n for s in SCHEMES.values() for n in s()})), st.text()),
)
def test_whatever_is_sent_is_let_in_by_nothing_but_the_secret(body: bytes, headers: dict[str, str]) -> None:
    raw = {name.lower().encode(): value.encode("utf-8", "replace") for name, value in headers.items()}
    for scheme in Signature:
        with pytest.raises(BadSignatureError):
            verify(scheme, secret_of(scheme), raw, body, MORNING)


# Secrets that are refused


@pytest.mark.parametrize(
    "secret", ["", "short", "x" * 1_001, "two\nlines of it", " with room around ", "\x00" * 10]
)
@each
def test_a_secret_that_can_be_none_is_refused_without_repeating_it(scheme: Signature, secret: str) -> None:
    with pytest.raises(InvalidError) as error:
        WebhookDraft("n", "p", signature=scheme, signing_secret=secret).checked()
    assert error.value.field == "signing_secret"
    assert not secret.strip() or secret not in str(error.value)


@pytest.mark.parametrize(
    "secret", ["whsec_not base64 at all!", "whsec_AA", "whsec_" + "A" * 25, "it's no base64 at all"]
)
def test_a_standard_secret_is_base64(secret: str) -> None:
    with pytest.raises(InvalidError, match="is base64") as error:
        WebhookDraft("n", "p", signature=Signature.STANDARD, signing_secret=secret).checked()
    assert secret not in str(error.value)


# What a delivery is known by


@pytest.mark.parametrize(
    ("scheme", "headers", "payload", "key"),
    [
        (None, {}, {"id": "1"}, None),
        (None, {"Idempotency-Key": "a"}, None, "a"),
        (None, {"X-GitHub-Delivery": "b"}, None, "b"),
        (None, {"webhook-id": "c"}, None, "c"),
        (None, {"X-Shopify-Webhook-Id": "d"}, None, "d"),
        (None, {"Idempotency-Key": "  "}, None, None),
        (None, {"Idempotency-Key": " a "}, None, "a"),
        (Signature.GITHUB, {"X-GitHub-Delivery": "b"}, {"id": "1"}, "b"),
        (Signature.GITLAB, {"Idempotency-Key": "a"}, {}, "a"),
        (Signature.SHOPIFY, {"X-Shopify-Webhook-Id": "d"}, {}, "d"),
        # what is signed goes before what anybody can change
        (Signature.STRIPE, {"Idempotency-Key": "a"}, {"id": "evt_1"}, "evt_1"),
        (Signature.STRIPE, {"Idempotency-Key": "a"}, {"id": 7}, "a"),
        (Signature.SLACK, {"Idempotency-Key": "a"}, {"event_id": "Ev1"}, "Ev1"),
        (Signature.SLACK, {"Idempotency-Key": "a"}, {"trigger_id": "1.2"}, "1.2"),
        (Signature.SLACK, {"Idempotency-Key": "a", "X-Slack-Signature": "v0=1"}, {}, "v0=1"),
        (Signature.STANDARD, {"Idempotency-Key": "a", "webhook-id": "msg_1"}, {"id": "x"}, "msg_1"),
    ],
)  # fmt: skip
def test_a_delivery_is_known_by_what_its_sender_gives_it(
    scheme: Signature | None, headers: Signed, payload: Any, key: str | None
) -> None:
    assert delivery_key(scheme, sent(headers), payload) == key


@pytest.mark.parametrize("key", ["k" * 201, "a\x01b", "\x85"])
def test_a_key_that_is_long_or_odd_is_known_by_its_hash(key: str) -> None:
    known = delivery_key(None, {b"idempotency-key": b"<" + key.encode("latin-1") + b">"}, None)
    assert known == "sha256:" + hashlib.sha256(f"<{key}>".encode()).hexdigest()
