import base64
import email
import email.policy
import json
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fastmcp import Client
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.shipped import EMAIL, StandIn, answered, open_server, open_stand_in, refused
from tests.sites import free_port

Server = Client[Any]

KEY = "SG.a-key-of-sendgrid-that-nobody-may-see"
MAIL = {"to": "ann@example.com", "subject": "Sprint", "body": "All done."}
SENDER = {"SENDER_EMAIL": "runner@example.com", "SENDER_NAME": "The Rünner"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("email")


@pytest.fixture(scope="module")
async def api() -> AsyncIterator[StandIn]:
    async with open_stand_in() as api:
        yield api


@pytest.fixture(scope="module")
async def sendgrid(home: Path, api: StandIn) -> AsyncIterator[Server]:
    given = {"SENDGRID_API_KEY": KEY, "SENDGRID_API_URL": api.url}
    async with open_server(EMAIL, home, **given, **SENDER) as server:
        yield server


@pytest.fixture(scope="module")
async def mailgun(home: Path, api: StandIn) -> AsyncIterator[Server]:
    given = {
        "MAILGUN_API_KEY": "key-of-mailgun",
        "MAILGUN_DOMAIN": "mg.example.com",
        "MAILGUN_API_URL": api.url,
    }
    async with open_server(EMAIL, home, EMAIL_PROVIDER="mailgun", **given, **SENDER) as server:
        yield server


class Postbox:
    """A mail server's rules, and what it took."""

    def __init__(self) -> None:
        self.taken: list[Envelope] = []

    async def handle_RCPT(  # noqa: N802 - as aiosmtpd calls it
        self, _server: object, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if address.startswith("nobody@"):
            return "550 5.1.1 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802 - as aiosmtpd calls it
        self, _server: object, _session: Session, envelope: Envelope
    ) -> str:
        if b"lottery" in (envelope.original_content or b""):
            return "554 5.7.1 that looks like spam"
        self.taken.append(envelope)
        return "250 queued"

    def last(self) -> EmailMessage:
        content = self.taken[-1].original_content
        assert content is not None
        message = email.message_from_bytes(content, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        return message


@pytest.fixture(scope="module")
def postbox() -> Postbox:
    return Postbox()


@pytest.fixture(scope="module")
def certificate(home: Path) -> Path:
    """A certificate of localhost with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime(2020, 1, 1, tzinfo=UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=36500))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = home / "certificate.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@contextmanager
def mail_server(postbox: Postbox, **options: Any) -> Iterator[int]:
    """A real mail server on loopback, which yields its port."""
    controller = Controller(postbox, hostname="127.0.0.1", port=free_port(), ready_timeout=60, **options)
    controller.start()
    try:
        yield controller.port
    finally:
        controller.stop()


def sign_in(
    _server: object, _session: Session, _envelope: Envelope, _mechanism: str, given: object
) -> AuthResult:
    good = isinstance(given, LoginPassword) and (given.login, given.password) == (b"me", b"pass word")
    return AuthResult(success=good, handled=False)


@pytest.fixture(scope="module")
def port(postbox: Postbox, certificate: Path) -> Iterator[int]:
    """The port of a mail server that wants TLS, then a name and a password."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    options = {
        "tls_context": context,
        "require_starttls": True,
        "authenticator": sign_in,
        "auth_required": True,
    }
    with mail_server(postbox, **options) as port:
        yield port


def smtp_at(port: int, **changes: str) -> dict[str, str]:
    given = {"EMAIL_PROVIDER": "smtp", "SMTP_HOST": "localhost", "SMTP_PORT": str(port)}
    return given | {"SMTP_USERNAME": "me", "SMTP_PASSWORD": "pass word"} | SENDER | changes


@pytest.fixture(scope="module")
async def smtp(home: Path, port: int, certificate: Path) -> AsyncIterator[Server]:
    async with open_server(EMAIL, home, **smtp_at(port, SSL_CERT_FILE=str(certificate))) as server:
        yield server


# What is configured.


def test_what_is_required_depends_on_the_provider() -> None:
    variables = json.loads((EMAIL / "metadata.json").read_text(encoding="utf-8"))["env_vars"]

    def required(provider: str) -> set[str]:
        return {
            one["name"]
            for one in variables
            if one["required"] and provider in one.get("when", {}).get("EMAIL_PROVIDER", [provider])
        }

    assert required("sendgrid") == {"SENDGRID_API_KEY", "SENDER_EMAIL"}
    assert required("mailgun") == {"MAILGUN_API_KEY", "MAILGUN_DOMAIN", "SENDER_EMAIL"}
    assert required("smtp") == {"SMTP_HOST", "SENDER_EMAIL"}
    assert {one["name"] for one in variables if one["sensitive"]} == {
        "SENDGRID_API_KEY", "MAILGUN_API_KEY", "SMTP_PASSWORD",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("provider", "missing"),
    [
        ("", ["SENDGRID_API_KEY", "SENDER_EMAIL"]),
        ("Mailgun", ["MAILGUN_API_KEY", "MAILGUN_DOMAIN", "SENDER_EMAIL"]),
        ("smtp", ["SMTP_HOST", "SENDER_EMAIL"]),
    ],
)
async def test_an_unconfigured_server_starts_and_names_what_it_misses(
    tmp_path: Path, provider: str, missing: list[str]
) -> None:
    async with open_server(EMAIL, tmp_path, EMAIL_PROVIDER=provider) as server:
        assert {tool.name for tool in await server.list_tools()} == {"send_email", "get_email_status"}
        status = await answered(server, "get_email_status")
        assert (status["ready"], status["missing"]) == (False, missing)
        sentence = await refused(server, "send_email", **MAIL)
    assert f"before {' and '.join(missing)} of the email server is set" in sentence


async def test_values_that_cannot_be_used_are_refused_without_being_shown(tmp_path: Path) -> None:
    given = {"SENDGRID_API_KEY": "SG.secret\r\nX-Evil: 1", "SENDER_EMAIL": "runner@example.com"}
    async with open_server(EMAIL, tmp_path, **given) as server:
        sentence = await refused(server, "send_email", **MAIL)
    assert sentence == "SENDGRID_API_KEY has a line break or a control character in it; set it anew"


async def test_an_unknown_provider_is_named(tmp_path: Path) -> None:
    async with open_server(EMAIL, tmp_path, EMAIL_PROVIDER="pigeon") as server:
        assert "'pigeon'; it may be sendgrid, mailgun, smtp" in await refused(server, "get_email_status")


async def test_every_parameter_is_described_to_the_model(sendgrid: Server) -> None:
    for tool in await sendgrid.list_tools():
        assert tool.description
        assert all(schema.get("description") for schema in tool.input_schema["properties"].values())


# What is refused before anything is sent.


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"to": []}, "`to` names nobody"),
        ({"to": "ann"}, "'ann' is no e-mail address"),
        ({"to": "ann@example.com, bob"}, "'bob' is no e-mail address"),
        ({"to": "a@b@c"}, "is no e-mail address"),
        ({"to": "ann@example.com\r\nBcc: eve@example.com"}, "must be one line"),
        ({"to": "Ann\n <ann@example.com>"}, "must be one line"),
        ({"subject": "Hi\r\nBcc: eve@example.com"}, "the subject has a line break"),
        ({"subject": "Hi\u2028there"}, "the subject has a line break"),
        ({"subject": " "}, "the subject is empty"),
        ({"body": "\n"}, "the body is empty"),
        ({"reply_to": "x"}, "`reply_to`: 'x' is no e-mail address"),
        ({"to": [f"a{n}@example.com" for n in range(501)]}, "may have 500 recipients, this one has 501"),
        ({"attachments": [{"filename": "a.txt"}]}, "give either content_text or content_base64"),
        ({"attachments": [{"filename": "a.bin", "content_base64": "?"}]}, "its content is not base64"),
        ({"attachments": [{"filename": "../a", "content_text": ""}]}, "is no filename"),
        ({"attachments": [{"filename": "a\r\nX: 1", "content_text": ""}]}, "must be one line"),
        ({"attachments": [{"filename": "a", "content_text": "", "content_type": "x\r\ny"}]}, "no media type"),
        ({"attachments": [{"filename": "a", "content_text": "x" * (15 * 2**20 + 1)}]}, "have 15.0 MiB"),
    ],
)
async def test_a_mail_that_is_not_right_is_refused(
    sendgrid: Server, api: StandIn, changes: dict[str, Any], sentence: str
) -> None:
    api.answers("", 202)
    assert sentence in await refused(sendgrid, "send_email", **(MAIL | changes))
    assert api.requests == []


# SendGrid.


async def test_sendgrid_gets_the_whole_mail(sendgrid: Server, api: StandIn) -> None:
    api.answers("", 202, X_Message_Id="14c5d75ce93")
    sent = await answered(
        sendgrid,
        "send_email",
        to=["Ann Lee <ann@example.com>", "bob@example.com, ann@example.com"],
        subject="Sprint",
        body="All done.",
        html="<p>All done.</p>",
        cc='"Lee, Cy" <cy@example.com>; Bob <BOB@example.com>',
        bcc=["dee@bücher.example"],
        reply_to="team@example.com",
        attachments=[
            {"filename": "r.csv", "content_text": "a,b"},
            {"filename": "p.png", "content_base64": "iVBO Rw=="},
        ],
    )
    recipients = ["ann@example.com", "bob@example.com", "cy@example.com", "dee@xn--bcher-kva.example"]
    assert sent == {
        "provider": "sendgrid",
        "message_id": "14c5d75ce93",
        "recipients": recipients,
        "refused": [],
    }
    [(request, body)] = api.requests
    assert (request.method, request.url.path) == ("POST", "/v3/mail/send")
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert json.loads(body) == {
        "personalizations": [
            {
                "to": [{"email": "ann@example.com", "name": "Ann Lee"}, {"email": "bob@example.com"}],
                "cc": [{"email": "cy@example.com", "name": "Lee, Cy"}],
                "bcc": [{"email": "dee@xn--bcher-kva.example"}],
            }
        ],
        "from": {"email": "runner@example.com", "name": "The Rünner"},
        "reply_to": {"email": "team@example.com"},
        "subject": "Sprint",
        "content": [
            {"type": "text/plain", "value": "All done."},
            {"type": "text/html", "value": "<p>All done.</p>"},
        ],
        "attachments": [
            {"filename": "r.csv", "type": "text/csv", "content": "YSxi", "disposition": "attachment"},
            {"filename": "p.png", "type": "image/png", "content": "iVBORw==", "disposition": "attachment"},
        ],
    }


def errors(*messages: str) -> str:
    """An error as SendGrid documents it."""
    return json.dumps({"errors": [{"message": message, "field": None, "help": None} for message in messages]})


@pytest.mark.parametrize(
    ("status", "body", "headers", "sentences"),
    [
        (
            400,
            errors("Does not contain a valid address."),
            {},
            ["did not like", "Does not contain a valid address."],
        ),
        (401, errors("The provided authorization grant is invalid"), {}, ["SENDGRID_API_KEY is wrong"]),
        (
            403,
            errors("The from address does not match a verified Sender Identity."),
            {},
            ["SENDER_EMAIL is not"],
        ),
        (413, errors("too large"), {}, ["the mail is too large"]),
        (429, errors("too many requests"), {"Retry_After": "17"}, ["try again in 17 seconds"]),
        (429, "", {"X_RateLimit_Reset": "1795600000"}, ["try again after 2026-11-25 ", " UTC"]),
        (429, "", {}, ["try again in some minutes"]),
        (500, "<html>oops</html>", {}, ["it has trouble of its own; try again later"]),
        (400, errors(f"bad key {KEY}"), {}, ["bad key [credential SENDGRID_API_KEY]"]),
    ],
)
async def test_what_sendgrid_refuses_is_told_in_words(
    sendgrid: Server, api: StandIn, status: int, body: str, headers: dict[str, str], sentences: list[str]
) -> None:
    api.answers(body, status, **headers)
    sentence = await refused(sendgrid, "send_email", **MAIL)
    assert sentence.startswith(f"nothing was sent: SendGrid answered {status}: ")
    assert all(part in sentence for part in sentences)
    assert KEY not in sentence
    assert "<html>" not in sentence


@pytest.mark.parametrize("provider", ["sendgrid", "mailgun"])
async def test_a_mail_whose_fate_is_unknown_is_not_to_be_sent_again(
    sendgrid: Server, mailgun: Server, api: StandIn, provider: str
) -> None:
    server = sendgrid if provider == "sendgrid" else mailgun
    unknown = "the mail may have been sent or not, so don't send it again but say that it is unknown"
    api.answers("", 504)
    assert unknown in await refused(server, "send_email", **MAIL)
    api.hangs_up()
    assert unknown in await refused(server, "send_email", **MAIL)


@pytest.mark.parametrize("provider", ["sendgrid", "mailgun"])
async def test_a_provider_that_cannot_be_reached_has_sent_nothing(tmp_path: Path, provider: str) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    given = {
        "EMAIL_PROVIDER": provider,
        "SENDGRID_API_KEY": KEY,
        "SENDGRID_API_URL": url,
        "MAILGUN_API_KEY": "key",
        "MAILGUN_DOMAIN": "mg.example.com",
        "MAILGUN_API_URL": url,
    }
    async with open_server(EMAIL, tmp_path, **given, **SENDER) as server:
        sentence = await refused(server, "send_email", **MAIL)
    assert sentence.lower() == f"nothing was sent: {provider} refused the connection"


async def test_sendgrid_tells_what_became_of_a_mail(sendgrid: Server, api: StandIn) -> None:
    message = {"msg_id": "14c5.filter1", "to_email": "ann@example.com", "status": "delivered"}
    api.answers(json.dumps({"messages": [message | {"last_event_time": "2026-11-24T09:00:00Z"}]}))
    status = await answered(sendgrid, "get_email_status", message_id="14c5")
    assert status["events"] == [
        {"event": "delivered", "recipient": "ann@example.com", "at": "2026-11-24T09:00:00Z", "reason": None}
    ]
    assert api.requests[0][0].query_params["query"] == "msg_id LIKE '14c5%'"


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_an_account_without_the_activity_history_is_told_so(
    sendgrid: Server, api: StandIn, status: int
) -> None:
    api.answers(errors("access forbidden"), status)
    answer = await answered(sendgrid, "get_email_status", message_id="14c5")
    assert answer["events"] == []
    assert "only to accounts that pay for the Email Activity history" in answer["note"]


async def test_what_cannot_be_looked_up_is_no_word_on_sending(sendgrid: Server, api: StandIn) -> None:
    api.answers("", 429)
    sentence = await refused(sendgrid, "get_email_status", message_id="14c5")
    assert sentence.startswith("what became of it can't be told: SendGrid answered 429")
    assert "no message_id" in await refused(sendgrid, "get_email_status", message_id="x' OR 1=1")


# Mailgun.


async def test_mailgun_gets_the_whole_mail(mailgun: Server, api: StandIn) -> None:
    fields: list[tuple[str, object]] = []

    async def take(request: Request) -> Response:
        async with request.form() as form:
            for name, value in form.multi_items():
                fields.append(
                    (name, value if isinstance(value, str) else (value.filename, await value.read()))
                )
        return JSONResponse({"id": "<20261124.1@mg.example.com>", "message": "Queued. Thank you."})

    api.answers("")
    api.answer = take
    sent = await answered(
        mailgun,
        "send_email",
        **MAIL | {"to": ["Ann Lee <ann@example.com>", "bob@example.com"]},
        html="<p>All done.</p>",
        bcc="dee@example.com",
        reply_to="team@example.com",
        attachments=[{"filename": "r.csv", "content_text": "a,b"}],
    )
    assert sent["message_id"] == "20261124.1@mg.example.com"
    request = api.requests[0][0]
    assert request.url.path == "/v3/mg.example.com/messages"
    assert base64.b64decode(request.headers["authorization"].split()[1]) == b"api:key-of-mailgun"
    assert fields == [
        ("from", "=?utf-8?q?The_R=C3=BCnner?= <runner@example.com>"),
        ("to", "Ann Lee <ann@example.com>"),
        ("to", "bob@example.com"),
        ("bcc", "dee@example.com"),
        ("subject", "Sprint"),
        ("text", "All done."),
        ("html", "<p>All done.</p>"),
        ("h:Reply-To", "team@example.com"),
        ("attachment", ("r.csv", b"a,b")),
    ]


@pytest.mark.parametrize(
    ("status", "body", "part"),
    [
        (
            400,
            '{"message": "from parameter is not a valid address"}',
            "from parameter is not a valid address",
        ),
        (401, "Forbidden", "MAILGUN_API_KEY is wrong, was withdrawn, or is of another region"),
        (404, '{"message": "Domain not found: mg.example.com"}', "a domain of the EU needs MAILGUN_API_URL"),
        (429, '{"message": "Too many requests"}', "too much was sent at once"),
        (302, "", "it gave no reason"),
    ],
)
async def test_what_mailgun_refuses_is_told_in_words(
    mailgun: Server, api: StandIn, status: int, body: str, part: str
) -> None:
    api.answers(body, status)
    sentence = await refused(mailgun, "send_email", **MAIL)
    assert sentence.startswith(f"nothing was sent: Mailgun answered {status}: ")
    assert part in sentence


async def test_mailgun_tells_what_became_of_a_mail(mailgun: Server, api: StandIn) -> None:
    item = {
        "event": "failed",
        "severity": "permanent",
        "recipient": "ann@example.com",
        "timestamp": 1795600000.5,
    }
    failure = {"delivery-status": {"message": "no such\nuser", "code": 550}}
    api.answers(json.dumps({"items": [item | failure]}))
    status = await answered(mailgun, "get_email_status", message_id="<1@mg.example.com>")
    [event] = status["events"]
    assert (event["event"], event["reason"]) == ("failed (permanent)", "no such user")
    assert event["at"].startswith("2026-11-25T")
    assert parse_qs(api.requests[0][0].url.query)["message-id"] == ["1@mg.example.com"]
    api.answers('{"items": []}')
    later = await answered(mailgun, "get_email_status", message_id="1@mg.example.com")
    assert later["note"].startswith("Mailgun knows of nothing yet")


async def test_an_answer_that_cannot_be_read_leaves_it_open_whether_it_was_sent(
    mailgun: Server, api: StandIn
) -> None:
    api.answers("[]")
    sentence = await refused(mailgun, "send_email", **MAIL)
    assert sentence.startswith("Mailgun gave an answer that can't be read; the mail may have been sent")


# Mail servers.


async def test_a_mail_goes_to_a_mail_server_after_tls_and_sign_in(smtp: Server, postbox: Postbox) -> None:
    sent = await answered(
        smtp,
        "send_email",
        to="Ann Lée <ann@example.com>",
        cc="bob@example.com",
        bcc=["dee@example.com", "Eve <eve@example.com>"],
        subject="Grüße",
        body="Erledigt. ✓",
        html="<p>Erledigt. ✓</p>",
        reply_to="team@example.com",
        attachments=[{"filename": "größe.csv", "content_text": "a,ß"}],
    )
    message, envelope = postbox.last(), postbox.taken[-1]
    assert envelope.mail_from == "runner@example.com"
    assert envelope.rcpt_tos == ["ann@example.com", "bob@example.com", "dee@example.com", "eve@example.com"]
    assert sent["recipients"] == envelope.rcpt_tos
    assert message["To"] == "Ann Lée <ann@example.com>"
    assert message["From"] == "The Rünner <runner@example.com>"
    assert (message["Cc"], message["Reply-To"]) == ("bob@example.com", "team@example.com")
    assert message["Subject"] == "Grüße"
    assert message["Message-ID"] == f"<{sent['message_id']}>"
    plain, html = message.get_body(("plain",)), message.get_body(("html",))
    assert plain is not None
    assert html is not None
    assert plain.get_content().strip() == "Erledigt. ✓"
    assert html.get_content().strip() == "<p>Erledigt. ✓</p>"
    [file] = message.iter_attachments()
    assert file.get_filename() == "größe.csv"
    assert file.get_payload(decode=True) == "a,ß".encode()


async def test_blind_copies_stand_nowhere_in_the_mail(smtp: Server, postbox: Postbox) -> None:
    await answered(smtp, "send_email", **MAIL, bcc="dee@example.com")
    assert "dee@example.com" in postbox.taken[-1].rcpt_tos
    assert b"dee@example.com" not in (postbox.taken[-1].original_content or b"")


async def test_a_recipient_that_is_refused_is_told_and_the_others_get_the_mail(
    smtp: Server, postbox: Postbox
) -> None:
    sent = await answered(smtp, "send_email", **MAIL | {"to": "ann@example.com, nobody@example.com"})
    assert sent["recipients"] == ["ann@example.com"]
    assert sent["refused"] == [{"address": "nobody@example.com", "answer": "550 5.1.1 no such user"}]
    assert postbox.taken[-1].rcpt_tos == ["ann@example.com"]


async def test_a_mail_server_that_refuses_has_sent_nothing(smtp: Server, postbox: Postbox) -> None:
    before = len(postbox.taken)
    nobody = await refused(smtp, "send_email", **MAIL | {"to": "nobody@example.com"})
    assert nobody == (
        "nothing was sent: the mail server took no recipient: nobody@example.com (550 5.1.1 no such user)"
    )
    spam = await refused(smtp, "send_email", **MAIL | {"body": "the lottery"})
    assert spam == "nothing was sent: the mail server refused the mail: 554 5.7.1 that looks like spam"
    assert len(postbox.taken) == before


async def test_smtp_says_honestly_that_it_knows_no_more(smtp: Server) -> None:
    status = await answered(smtp, "get_email_status", message_id="1@example.com")
    assert "SMTP tells nothing of what became of it" in status["note"]


async def test_a_wrong_password_is_told_without_it(home: Path, port: int, certificate: Path) -> None:
    given = smtp_at(port, SSL_CERT_FILE=str(certificate), SMTP_PASSWORD="wrong-one")
    async with open_server(EMAIL, home, **given) as server:
        sentence = await refused(server, "send_email", **MAIL)
    assert sentence.startswith(
        "nothing was sent: the mail server refused SMTP_USERNAME and SMTP_PASSWORD: 535"
    )
    assert "wrong-one" not in sentence


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "the certificate of localhost is not to be trusted: self"),
        ({"SMTP_SECURITY": "tls"}, "does not speak TLS as SMTP_SECURITY wants it"),
        (
            {"SMTP_SECURITY": "none", "SMTP_HOST": "mail.example.com"},
            "would go over the network in the clear",
        ),
        ({"SMTP_PORT": "http"}, "SMTP_PORT is 'http'; it must be a number"),
        ({"SMTP_SECURITY": "ssl"}, "SMTP_SECURITY is 'ssl'; it may be starttls, tls, none"),
        ({"SMTP_PORT": "1"}, "nothing listens at localhost port 1"),
        ({"SMTP_HOST": "mail.invalid"}, "there is no mail server 'mail.invalid'"),
    ],
)
async def test_a_mail_server_that_is_set_up_wrong_is_told_of(
    home: Path, port: int, changes: dict[str, str], sentence: str
) -> None:
    async with open_server(EMAIL, home, **smtp_at(port, **changes)) as server:
        assert sentence in await refused(server, "send_email", **MAIL)


async def test_a_mail_server_of_ones_own_needs_neither_tls_nor_a_password(
    home: Path, postbox: Postbox
) -> None:
    with mail_server(postbox) as port:
        given = smtp_at(port, SMTP_SECURITY="none", SMTP_USERNAME="")
        async with open_server(EMAIL, home, **given) as server:
            await answered(server, "send_email", **MAIL)
        assert postbox.last()["Subject"] == "Sprint"
        async with open_server(EMAIL, home, **smtp_at(port)) as server:
            sentence = await refused(server, "send_email", **MAIL)
    assert sentence == (
        "nothing was sent: the mail server does not offer what SMTP_SECURITY or SMTP_USERNAME ask for"
    )


async def test_a_mail_server_may_speak_tls_from_the_first_byte(
    home: Path, postbox: Postbox, certificate: Path
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    with mail_server(postbox, ssl_context=context, authenticator=sign_in, auth_require_tls=False) as port:
        given = smtp_at(port, SMTP_SECURITY="tls", SSL_CERT_FILE=str(certificate), SMTP_USERNAME="")
        async with open_server(EMAIL, home, **given) as server:
            await answered(server, "send_email", **MAIL)
    assert postbox.last()["Subject"] == "Sprint"
