"""Any mail server: SMTP by RFC 5321, with TLS by RFC 3207 or RFC 8314."""

import contextlib
import ipaddress
import re
import smtplib
import socket
import ssl
from email.headerregistry import Address as HeaderAddress
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Final

from configured import choice_of, secret_of, shown, value_of
from fastmcp.exceptions import ToolError
from mails import Address, Mail, Refused, Sent, TroubleError

_SECONDS: Final = 30.0  # for each step of the conversation
_PORTS: Final = {"starttls": 587, "tls": 465, "none": 587}


def send_by_smtp(mail: Mail) -> Sent:
    """Hand a mail to the mail server; raises `TroubleError`."""
    message = _message(mail)
    session = _open_session()
    try:
        refused = session.send_message(message, mail.sender.address, mail.recipients)
    except (smtplib.SMTPResponseException, smtplib.SMTPRecipientsRefused) as error:
        raise TroubleError(_said(error)) from None
    except (smtplib.SMTPException, OSError):
        said = "the mail server broke off while it was given the mail"
        raise TroubleError(said, perhaps_done=True) from None
    finally:
        with contextlib.suppress(smtplib.SMTPException, OSError):
            session.quit()
    return Sent(
        "smtp",
        message["Message-ID"].strip("<>"),
        [address for address in mail.recipients if address not in refused],
        [Refused(address, _reply(*reply)) for address, reply in refused.items()],
    )


def _message(mail: Mail) -> EmailMessage:
    """Return the mail as it is sent; who gets a blind copy is not in it."""
    message = EmailMessage()
    message["From"] = _header([mail.sender])
    message["To"] = _header(mail.to)
    if mail.cc:
        message["Cc"] = _header(mail.cc)
    if mail.reply_to:
        message["Reply-To"] = _header([mail.reply_to])
    message["Subject"] = mail.subject
    message["Date"] = formatdate()
    message["Message-ID"] = make_msgid(domain=mail.sender.address.rpartition("@")[2])
    message.set_content(mail.body)
    if mail.html:
        message.add_alternative(mail.html, subtype="html")
    for file in mail.files:
        main, _, sub = file.type.partition("/")
        message.add_attachment(file.content, main, sub, filename=file.name)
    return message


def _header(people: list[Address]) -> list[HeaderAddress]:
    return [HeaderAddress(one.name, addr_spec=one.address) for one in people]


def _open_session() -> smtplib.SMTP:
    """Return a conversation with the mail server, signed in where there is a name to sign in with."""
    host, user = value_of("SMTP_HOST"), secret_of("SMTP_USERNAME")
    security = choice_of("SMTP_SECURITY", _PORTS, "starttls")
    if user and security == "none" and not _stays_here(host):
        raise TroubleError(
            "SMTP_SECURITY is none, so SMTP_PASSWORD would go over the network in the clear; set it to starttls or tls"
        )
    try:
        with contextlib.ExitStack() as failing:
            session = _connect(host, _port(security), security)
            failing.callback(session.close)
            if security == "starttls":
                session.starttls(context=ssl.create_default_context())
            if user:
                session.login(user, secret_of("SMTP_PASSWORD"))
            failing.pop_all()
    except smtplib.SMTPException as error:
        raise TroubleError(_said(error)) from None
    except OSError as error:
        raise TroubleError(_why_not_reached(error, host, _port(security))) from None
    return session


def _connect(host: str, port: int, security: str) -> smtplib.SMTP:
    # The name that is given in greeting is not looked up, which can take long, nor told: as Thunderbird has it.
    greeting = "[127.0.0.1]"
    if security == "tls":
        return smtplib.SMTP_SSL(host, port, greeting, timeout=_SECONDS, context=ssl.create_default_context())
    return smtplib.SMTP(host, port, greeting, timeout=_SECONDS)


def _port(security: str) -> int:
    port = value_of("SMTP_PORT") or str(_PORTS[security])
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        raise ToolError(f"SMTP_PORT is {port[:20]!r}; it must be a number, such as 587")
    return int(port)


def _stays_here(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _why_not_reached(error: OSError, host: str, port: int) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate of {host} is not to be trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return (
            f"{host} port {port} does not speak TLS as SMTP_SECURITY wants it (usual: 587 starttls, 465 tls)"
        )
    if isinstance(error, socket.gaierror):
        return f"there is no mail server {host!r}: the name can't be found"
    if isinstance(error, TimeoutError):
        return f"{host} port {port} did not answer within {_SECONDS:g} seconds"
    if isinstance(error, ConnectionRefusedError):
        return f"nothing listens at {host} port {port}; are SMTP_HOST and SMTP_PORT right?"
    return f"{host} port {port} can't be reached ({error.strerror or type(error).__name__})"


def _said(error: smtplib.SMTPException) -> str:
    """Return what the mail server's refusal means."""
    match error:
        case smtplib.SMTPAuthenticationError():
            meaning = "the mail server refused SMTP_USERNAME and SMTP_PASSWORD"
        case smtplib.SMTPSenderRefused():
            meaning = "the mail server refused SENDER_EMAIL"
        case smtplib.SMTPRecipientsRefused():
            replies = (f"{address} ({_reply(*reply)})" for address, reply in error.recipients.items())
            return f"the mail server took no recipient: {', '.join(replies)}"
        case smtplib.SMTPDataError():
            meaning = "the mail server refused the mail"
        case smtplib.SMTPNotSupportedError():
            return "the mail server does not offer what SMTP_SECURITY or SMTP_USERNAME ask for"
        case _:
            meaning = "the mail server broke off or does not speak SMTP there"
    if isinstance(error, smtplib.SMTPResponseException):
        return f"{meaning}: {_reply(error.smtp_code, error.smtp_error)}"
    return meaning


def _reply(code: int, words: bytes | str) -> str:
    said = words.decode(errors="replace") if isinstance(words, bytes) else words
    return f"{code} {shown(said)}".strip()
