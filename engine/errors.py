"""The base of every error that flashclaim raises on purpose.

An error is a small class beside the rule that it guards. It carries a stable `code`, one sentence that says
what to do, and the facts that help; it knows nothing of HTTP or of exit codes: `api/problems.py` and
`cli/__init__.py` map them.

    FlashclaimError
    ├── Refused                the request was understood, and the state or a rule says no
    │   ├── (claims)           engine/claims/model.py: one per refusing verdict
    │   ├── (drops)            engine/drops/model.py: WrongStatus, StaleRevision, NoSuchDrop, DuplicateDrop
    │   ├── (draws)            engine/draws/model.py: NoSuchDraw, WrongStage, NoAward, DrawAltered
    │   ├── (campaigns)        engine/campaigns/model.py: NoSuchCampaign, DuplicateCampaign
    │   ├── (members)          engine/members/model.py: NotEligible
    │   ├── (gates)            engine/gates/: one file for each gate; service.py: NoSuchGate
    │   ├── (notices)          engine/notices/model.py: NoSuchMessage
    │   ├── (schedule)         engine/schedule/model.py: NoSuchJob, WrongState
    │   └── (rates)            engine/rates/denied.py: Denied
    ├── Invalid                the request itself is wrong: names the place and the field
    │   ├── (definitions)      engine/drops/spec.py: SpecInvalid; engine/campaigns/spec.py: CampaignInvalid
    │   ├── (campaigns)        engine/campaigns/review.py: ReviewRequired
    │   ├── (tickets)          engine/claims/ticket.py: TicketInvalid; receipt.py: ReceiptInvalid
    │   ├── (gates)            engine/gates/: one file for each gate; model.py: PassInvalid
    │   └── (draws)            engine/draws/publication.py: DrawInvalid
    ├── Unavailable            nobody's fault here and now: try again
    │   ├── (claims)           engine/claims/model.py: Overloaded, OutcomeUnknown, StoreUnavailable, NotReady
    │   ├── (notices)          engine/notices/model.py: TooManyStreams
    │   └── (rates)            engine/rates/model.py: SlowDown
    └── Misconfigured          a setting is unknown, contradictory or unsafe: the start is stopped
"""

from typing import ClassVar


class FlashclaimError(Exception):
    """An error with a stable code and the facts that help its reader.

    `detail` is one sentence for people; `facts` are named values for programs (shown as members of the
    problem+json answer and of `--json` output).
    """

    code: ClassVar[str] = "error"

    def __init__(self, detail: str, **facts: object) -> None:
        super().__init__(detail)
        self.detail = detail
        self.facts = facts


class Refused(FlashclaimError):
    """The request was understood, and the state or a rule says no."""


class Invalid(FlashclaimError):
    """The request itself is wrong; sending it again unchanged is useless."""

    code = "invalid"


class Unavailable(FlashclaimError):
    """Something that is needed is away for now; `retry_after_s` says when to come back."""

    code = "unavailable"

    def __init__(self, detail: str, *, retry_after_s: int = 1, **facts: object) -> None:
        super().__init__(detail, **facts)
        self.retry_after_s = retry_after_s


class Misconfigured(FlashclaimError):
    """A setting is unknown, contradictory or unsafe; nothing is started with it."""

    code = "misconfigured"
