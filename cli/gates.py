"""`flashclaim gates`, and how `flashclaim ticket` passes what a drop asks: by options, at a terminal by questions."""

import sys
from collections.abc import Sequence
from itertools import count
from typing import Annotated, Any, NamedTuple

import typer

from cli.client import Client
from cli.options import AsJson, DataDir, DropArgument, Url, print_json, print_table, say

MemberToken = Annotated[str, typer.Option("--token", help="The member's session token.")]
Location = Annotated[str | None, typer.Option(metavar="LAT,LON", help="Where the member is, in degrees.")]
Slogan = Annotated[str | None, typer.Option(metavar="ID", help="The slogan that the member chooses.")]
Answers = Annotated[
    list[str] | None, typer.Option("--answer", metavar="QUESTION=NUMBER", help="An answer to the quiz; once for each.")
]


def register(app: typer.Typer) -> None:
    @app.command()
    def gates(
        drop: DropArgument, token: MemberToken, as_json: AsJson = False, url: Url = None, data: DataDir = None
    ) -> None:
        """Show what a drop asks before it gives a ticket; nothing is begun by that.

        Example:  flashclaim gates lychee-2025 --token "$(flashclaim token member m-1)"
        """
        asked = Client(data, url, token).call("GET", f"/v1/drops/{drop}/challenge")["gates"]
        if as_json:
            print_json(asked)
            return
        rows: list[list[object]] = [[gate["gate"], _facts(gate)] for gate in asked]
        print_table(f"What {drop} asks, in order", ["gate", "asks"], rows)


class Means(NamedTuple):
    """What the caller gives for gates; at a terminal what is missing is asked for."""

    location: str | None
    slogan: str | None
    answers: Sequence[str]


def passed(client: Client, drop: str, means: Means) -> dict[str, Any]:
    """What a ticket request must bring; what nobody gives is left out, and the API says what it misses."""
    body: dict[str, Any] = {}
    for asked in client.call("GET", f"/v1/drops/{drop}/challenge")["gates"]:
        match asked["gate"]:
            case "list":
                body["list"] = client.call("POST", f"/v1/drops/{drop}/list")["pass"]
            case "location":
                text = means.location or _ask("Where are you (lat,lon)?")
                body |= {"location": _place(text)} if text else {}
            case "slogan":
                text = means.slogan or _choose(asked["choices"])
                body |= {"slogan": text} if text else {}
            case "quiz":
                body["quiz"] = _quiz(client, drop, means.answers)
            case "proof-of-work":
                body["proof"] = _worked(asked["challenge"], asked["bits"])
    return body


def _facts(gate: dict[str, Any]) -> str:
    match gate["gate"]:
        case "slogan":
            return " · ".join(f"{choice['id']}: {_words(choice['text'])}" for choice in gate["choices"])
        case "location" if gate["towns"] != "any":
            return "in " + "、".join(gate["towns"])
        case _:
            return ", ".join(f"{name} {gate[name]}" for name in gate if name not in ("gate", "route", "challenge"))


def _quiz(client: Client, drop: str, answers: Sequence[str]) -> str:
    """The quiz's pass; an answer that was forgotten costs no attempt."""
    attempt = client.call("POST", f"/v1/drops/{drop}/quiz")
    if not attempt["passed"]:
        given = dict(map(_answer, answers))
        for question in attempt["questions"]:
            if question["id"] not in given:
                _show(question)
                number = _ask("Which one?")
                given.update([_answer(f"{question['id']}={number}")] if number else [])
        if any(question["id"] not in given for question in attempt["questions"]):
            until = attempt["expires_at"]
            raise typer.BadParameter(f"answer each of these until {until}: --answer QUESTION=NUMBER")
        body = {"attempt": attempt["attempt"], "answers": given}
        attempt = client.call("POST", f"/v1/drops/{drop}/quiz/answers", body)
    found: str = attempt["pass"]
    return found


def _show(question: dict[str, Any]) -> None:
    say(f"{question['id']}: {_words(question['question'])}")
    for choice in question["choices"]:
        say(f"  {choice['number']}  {_words(choice['text'])}")


def _choose(choices: list[dict[str, Any]]) -> str | None:
    if sys.stdin.isatty():
        for choice in choices:
            say(f"  {choice['id']}  {_words(choice['text'])}")
    return _ask("Which slogan?")


def _ask(question: str) -> str | None:
    """The answer of the person at the terminal; None where there is none."""
    if not sys.stdin.isatty():
        return None
    answer: str = typer.prompt(question, err=True)
    return answer.strip()


def _place(text: str) -> dict[str, float]:
    try:
        lat, lon = map(float, text.split(","))
    except ValueError:
        raise typer.BadParameter("--location: write it as LAT,LON in degrees, such as 22.9,113.93") from None
    return {"lat": lat, "lon": lon}


def _answer(text: str) -> tuple[str, int]:
    question, _, number = text.partition("=")
    if not number.isdecimal() or len(number) > 9:
        raise typer.BadParameter(f"--answer: {text[:60]!r} is not QUESTION=NUMBER, such as q1=2")
    return question, int(number)


def _words(texts: dict[str, str]) -> str:
    return " / ".join(texts.values())


def _worked(challenge: str, bits: int) -> str:
    """The proof that a challenge asks for: 18 bits take a quarter of a second."""
    from engine.gates.proof_of_work import zero_bits

    return next(proof for number in count() if zero_bits(proof := f"{challenge}.{number}") >= bits)
