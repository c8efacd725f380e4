"""SendGrid and Mailgun, which are asked over HTTP."""

import base64
import http.client
import json
import re
import socket
import ssl
import urllib.error
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from configured import TITLES, api_of, secret_of, shown, value_of
from mails import Address, Event, Mail, Sent, TroubleError

_SECONDS: Final = 30.0  # for each exchange
_MAX_EVENTS: Final = 50
_ACTIVITY: Final = (
    "SendGrid tells what became of a mail only to accounts that pay for the Email Activity history, and only to keys "
    "with that right; that the mail was accepted is all that is known"
)
_DOMAIN: Final = re.compile(r"[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})+")


@dataclass(frozen=True)
class _Answer:
    """An API's answer to an HTTP request."""

    provider: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_good(self) -> bool:
        return 200 <= self.status < 300

    @property
    def json(self) -> dict[str, Any]:
        try:
            said = json.loads(self.body)
        except ValueError:
            said = None
        if not isinstance(said, dict):
            reason = f"{TITLES[self.provider]} gave an answer that can't be read"
            raise TroubleError(reason, perhaps_done=self.is_good)
        return said

    @property
    def words(self) -> str:
        """What the provider says about a failure."""
        try:
            said = json.loads(self.body)
            words = said.get("message") or "; ".join(error["message"] for error in said["errors"])
        except (ValueError, KeyError, TypeError, AttributeError):
            words = "" if b"<" in self.body else self.body.decode(errors="replace")
        return shown(str(words))


def _refusal(answer: _Answer) -> TroubleError:
    """Return what a bad answer means and what can be done about it: a gateway's says nothing of what is behind it."""
    title, key = TITLES[answer.provider], f"{answer.provider.upper()}_API_KEY"
    meanings = {
        400: "it did not like the mail",
        401: f"the key in {key} is wrong, was withdrawn, or is of another region ({answer.provider.upper()}_API_URL)",
        403: "the key may not send mail, or SENDER_EMAIL is not a sender that was verified there",
        404: "it does not know the domain in MAILGUN_DOMAIN; a domain of the EU needs MAILGUN_API_URL",
        413: "the mail is too large",
        429: f"too much was sent at once; {_when(answer.headers)}",
    }
    meaning = meanings.get(answer.status, "")
    if answer.status >= 500:
        meaning = "it has trouble of its own; try again later"
    reason = ": ".join(part for part in (meaning, answer.words) if part) or "it gave no reason"
    return TroubleError(
        f"{title} answered {answer.status}: {reason}", perhaps_done=answer.status in {502, 504}
    )


def _when(headers: Mapping[str, str]) -> str:
    if (seconds := headers.get("Retry-After", "")).isdigit():
        return f"try again in {seconds} seconds"
    if (moment := headers.get("X-RateLimit-Reset", "")).isdigit() and len(moment) <= 10:
        return f"try again after {datetime.fromtimestamp(int(moment), UTC):%Y-%m-%d %H:%M:%S} UTC"
    return "try again in some minutes"


def _unreachable(provider: str, reason: object, *, connected: bool) -> TroubleError:
    """Return what it means that no answer came: before the connection stood, nothing can have been done."""
    title = TITLES[provider]
    match reason:
        case socket.gaierror():
            return TroubleError(f"the address of {title} can't be found; is there a network?")
        case ConnectionRefusedError():
            return TroubleError(f"{title} refused the connection")
        case ssl.SSLCertVerificationError():
            return TroubleError(f"the certificate of {title} is not to be trusted: {reason.verify_message}")
        case TimeoutError():
            said = f"{title} did not answer within {_SECONDS:g} seconds"
            return TroubleError(said, perhaps_done=connected)
        case _:
            return TroubleError(
                f"the connection to {title} broke ({type(reason).__name__})", perhaps_done=connected
            )


# SendGrid: https://www.twilio.com/docs/sendgrid/api-reference/mail-send


def _ask_sendgrid(request: Callable[[Any], Any]) -> _Answer:
    import sendgrid  # type: ignore[import-untyped]  # noqa: PLC0415 - only for whom SendGrid sends
    from python_http_client.exceptions import (  # type: ignore[import-untyped]  # noqa: PLC0415 - as above
        HTTPError,
    )

    url = api_of("SENDGRID_API_URL", "https://api.sendgrid.com")
    client = sendgrid.SendGridAPIClient(secret_of("SENDGRID_API_KEY"), host=url).client
    client.timeout = _SECONDS
    try:
        response = request(client)
    except HTTPError as error:
        response = error
    except urllib.error.URLError as error:
        raise _unreachable("sendgrid", error.reason, connected=False) from None
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable("sendgrid", error, connected=True) from None
    return _Answer("sendgrid", response.status_code, response.headers, response.body)


def send_by_sendgrid(mail: Mail) -> Sent:
    """Send a mail by SendGrid; raises `TroubleError`."""
    body = _sendgrid_body(mail)
    answer = _ask_sendgrid(lambda client: client.mail.send.post(request_body=body))
    if not answer.is_good:
        raise _refusal(answer)
    return Sent("sendgrid", answer.headers.get("X-Message-Id", ""), mail.recipients)


def _sendgrid_body(mail: Mail) -> dict[str, Any]:
    content = [{"type": "text/plain", "value": mail.body}]
    if mail.html:
        content.append({"type": "text/html", "value": mail.html})
    fields = {"to": mail.to, "cc": mail.cc, "bcc": mail.bcc}
    files = [
        {
            "filename": file.name,
            "type": file.type,
            "content": base64.b64encode(file.content).decode(),
            "disposition": "attachment",
        }
        for file in mail.files
    ]
    body: dict[str, Any] = {
        "personalizations": [{name: [_entry(one) for one in some] for name, some in fields.items() if some}],
        "from": _entry(mail.sender),
        "subject": mail.subject,
        "content": content,
    }
    if mail.reply_to:
        body["reply_to"] = _entry(mail.reply_to)
    return body | ({"attachments": files} if files else {})


def _entry(someone: Address) -> dict[str, str]:
    return {"email": someone.address} | ({"name": someone.name} if someone.name else {})


def look_up_at_sendgrid(message_id: str) -> tuple[list[Event], str]:
    """Return what became of a mail, and a note on it; raises `TroubleError`."""
    # The id of a mail is the beginning of the ids that its messages get, one for each recipient.
    query = {"limit": _MAX_EVENTS, "query": f"msg_id LIKE '{message_id}%'"}
    answer = _ask_sendgrid(lambda client: client.messages.get(query_params=query))
    if answer.status in {400, 401, 403, 404}:
        return [], f"{_ACTIVITY} (it answered {answer.status}: {answer.words or 'no reason'})"
    if not answer.is_good:
        raise _refusal(answer)
    found = [
        Event(str(entry.get("status")), str(entry.get("to_email")), entry.get("last_event_time"))
        for entry in answer.json.get("messages", [])
    ]
    return found, "the last state for each recipient" if found else "SendGrid does not know of it, or not yet"


# Mailgun: https://documentation.mailgun.com/docs/mailgun/api-reference/send/mailgun/messages


def _ask_mailgun(method: str, path: str, **request: Any) -> _Answer:
    import requests  # noqa: PLC0415 - only for whom Mailgun sends

    domain = value_of("MAILGUN_DOMAIN")
    if not _DOMAIN.fullmatch(domain):
        raise TroubleError(f"MAILGUN_DOMAIN is {domain[:100]!r}; it must be a domain, such as mg.example.com")
    url = f"{api_of('MAILGUN_API_URL', 'https://api.mailgun.net')}/v3/{domain}/{path}"
    try:
        response = requests.request(
            method,
            url,
            auth=("api", secret_of("MAILGUN_API_KEY")),
            timeout=_SECONDS,
            allow_redirects=False,
            **request,
        )
    except requests.ConnectTimeout:
        raise _unreachable("mailgun", TimeoutError(), connected=False) from None
    except requests.RequestException as error:
        raise _unreachable("mailgun", _cause(error), connected=True) from None
    return _Answer("mailgun", response.status_code, response.headers, response.content)


def _cause(error: BaseException) -> BaseException:
    """Return the error of the system that is wrapped in one of requests, where there is one."""
    todo, seen = [error], list[BaseException]()
    while todo:
        one = todo.pop(0)
        seen.append(one)
        nested = (one.__cause__, one.__context__, getattr(one, "reason", None), *one.args)
        todo += [inner for inner in nested if isinstance(inner, BaseException) and inner not in seen]
    told = (socket.gaierror, ConnectionRefusedError, ssl.SSLError, TimeoutError)
    return next((one for one in seen if isinstance(one, told)), error)


def send_by_mailgun(mail: Mail) -> Sent:
    """Send a mail by Mailgun; raises `TroubleError`."""
    form: dict[str, Any] = {
        "from": mail.sender.text,
        "to": [someone.text for someone in mail.to],
        "cc": [someone.text for someone in mail.cc],
        "bcc": [someone.text for someone in mail.bcc],
        "subject": mail.subject,
        "text": mail.body,
    }
    if mail.html:
        form["html"] = mail.html
    if mail.reply_to:
        form["h:Reply-To"] = mail.reply_to.text
    files = [("attachment", (file.name, file.content, file.type)) for file in mail.files]
    answer = _ask_mailgun("POST", "messages", data=form, files=files)
    if not answer.is_good:
        raise _refusal(answer)
    return Sent("mailgun", str(answer.json.get("id", "")).strip("<>"), mail.recipients)


def look_up_at_mailgun(message_id: str) -> tuple[list[Event], str]:
    """Return what became of a mail, and a note on it; raises `TroubleError`."""
    answer = _ask_mailgun(
        "GET", "events", params={"message-id": message_id, "limit": _MAX_EVENTS, "ascending": "yes"}
    )
    if not answer.is_good:
        raise _refusal(answer)
    found = [_mailgun_event(item) for item in answer.json.get("items", [])]
    if not found:
        return (
            [],
            "Mailgun knows of nothing yet: its events come some minutes late, and are kept for some days",
        )
    return found, f"the last event is {found[-1].event!r}"


def _mailgun_event(item: dict[str, Any]) -> Event:
    severity = f" ({item['severity']})" if item.get("severity") else ""
    delivery = item.get("delivery-status") or {}
    reason = delivery.get("message") or delivery.get("description") or item.get("reason")
    return Event(
        f"{item.get('event')}{severity}",
        str(item.get("recipient", "")),
        datetime.fromtimestamp(float(item["timestamp"]), UTC).isoformat(timespec="seconds"),
        shown(str(reason)) if reason else None,
    )
