"""The rush as people live it: drop page, ticket before the opening, wait, press, press again, check the receipt."""

import os
import random
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import gevent
from locust import FastHttpUser, events, task
from locust.env import Environment

from engine.members.model import Session
from engine.members.session import SessionTokens
from engine.runtime.settings import load_settings
from loadtests import config
from loadtests.tally import Tally
from loadtests.workload import Person, people

TRIES_MAX = 6  # of one press, while the answer is 503, 429 or none
WAVE_WAIT_S_MAX = 60.0
PROGRESS_S = 2.0


class Rush:
    """What all users of a run share."""

    def __init__(self) -> None:
        self.config = config.from_environment()
        self.tally = Tally(self.config.out_dir, self.config.drop_id)
        self.tokens = SessionTokens(load_settings(self.config.data_dir))
        self.queue: Iterator[Person] | None = None
        self.is_empty = False

    @property
    def is_over(self) -> bool:
        """Whether everybody has lived their day."""
        return self.tally.people_done >= self.config.members

    def open_queue(self, drop: dict[str, Any]) -> None:
        """Line the people up; the first user who has seen the drop page does it."""
        if self.queue is None:
            items = [item["id"] for item in drop["items"]]
            stock = [max(1, item["stock"]) for item in drop["items"]]
            self.queue = people(self.config.seed, self.config.members, items, stock)

    def next_person(self) -> Person | None:
        person = next(self.queue, None) if self.queue is not None else None
        self.is_empty = person is None
        return person


rush: Rush


class Member(FastHttpUser):
    """A phone. It lives one member's day after the other, until nobody is left."""

    connection_timeout = 10.0
    network_timeout = 30.0

    @task
    def live(self) -> None:
        person = None if rush.is_empty else self._next_person()
        if person is None:
            gevent.sleep(1)
            return
        try:
            drop = self._drop_page()
            if drop is not None:
                self._rush(person, drop)
        finally:
            rush.tally.people_done += 1

    def _next_person(self) -> Person | None:
        if rush.queue is None:
            drop = self._drop_page()
            if drop is None:
                return None
            rush.open_queue(drop)
        return rush.next_person()

    def _rush(self, person: Person, drop: dict[str, Any]) -> None:
        session = Session(person.member_id, person.member_id, "member", {"town": person.town})
        bearer = f"Bearer {rush.tokens.issue(session, 3_600)}"
        opens_s = datetime.fromisoformat(drop["opens_at"]).timestamp()
        if not person.is_early:
            _sleep_until(opens_s + random.random())
        for _ in range(2 if person.is_greedy else 1):
            ticket = self._ticket(bearer, person.item)
            if ticket is None:
                return
            _sleep_until(opens_s)
            if person.is_forger:
                self._press(ticket[:-2] + ("AA" if ticket[-2:] != "AA" else "BA"), person)
            self._press_often(ticket, person)

    def _press_often(self, ticket: str, person: Person) -> None:
        for _ in range(person.presses):
            answer = self._press(ticket, person)
            next_wave = answer.get("next_release_at")
            if person.is_patient and answer.get("code") == "sold-out" and next_wave:
                wave_s = datetime.fromisoformat(next_wave).timestamp()
                if wave_s - time.time() < WAVE_WAIT_S_MAX:
                    _sleep_until(wave_s)
                    answer = self._press(ticket, person)
        if person.checks_receipt and "receipt" in answer:
            self._check_receipt(answer)

    def _drop_page(self) -> dict[str, Any] | None:
        with self.client.get(f"/v1/drops/{rush.config.drop_id}", name="drop page", catch_response=True) as answer:
            if answer.status_code == 200:
                answer.success()
                found: dict[str, Any] = answer.json()
                return found
            rush.tally.errors[f"drop page {answer.status_code}"] += 1
            return None

    def _ticket(self, bearer: str, item: str) -> str | None:
        path = f"/v1/drops/{rush.config.drop_id}/ticket"
        for _ in range(TRIES_MAX):
            with self.client.post(
                path, json={"item": item}, headers={"Authorization": bearer}, name="ticket", catch_response=True
            ) as answer:
                if answer.status_code == 200:
                    answer.success()
                    return str(answer.json()["ticket"])
                if answer.status_code not in (0, 429, 503):
                    answer.success()  # a refusal is an answer: the drop is closed, or not for this member
                    rush.tally.answers[str(answer.json()["code"])] += 1
                    return None
            gevent.sleep(random.uniform(0.5, 1.5))
        return None

    def _press(self, ticket: str, person: Person) -> dict[str, Any]:
        """Press the button once; on 503, 429 or no answer at all send the same ticket again."""
        path = f"/v1/drops/{rush.config.drop_id}/claims"
        for _ in range(TRIES_MAX):
            started_s = time.perf_counter()
            with self.client.post(
                path, headers={"Authorization": f"Ticket {ticket}"}, name="claim", catch_response=True
            ) as answer:
                took_ms = (time.perf_counter() - started_s) * 1000
                if answer.status_code:
                    told: dict[str, Any] = answer.json()
                    rush.tally.claim_answered(
                        ticket, person.item, answer.status_code, told, took_ms, person.town_number
                    )
                    if answer.status_code not in (429, 503):
                        answer.success()
                        return told
                else:
                    rush.tally.errors["no answer"] += 1
            gevent.sleep(random.uniform(0.5, 1.5))
        return {}

    def _check_receipt(self, claim: dict[str, Any]) -> None:
        with self.client.post(
            "/v1/receipts/verify", json={"receipt": claim["receipt"]}, name="receipt", catch_response=True
        ) as answer:
            if answer.status_code == 200 and answer.json()["claim_id"] == claim["claim_id"]:
                answer.success()
            elif answer.status_code == 200:
                rush.tally.broken.append(f"the receipt of {claim['claim_id']} is for another claim")


def _sleep_until(instant_s: float) -> None:
    gevent.sleep(max(0.0, instant_s - time.time()))


@events.init.add_listener
def _begin(**_: object) -> None:
    global rush
    rush = Rush()
    gevent.spawn(_report)


def _report() -> None:
    out = os.fdopen(rush.config.progress_fd, "w", closefd=False)
    while not rush.is_over:
        gevent.sleep(PROGRESS_S)
        found, people_done = rush.tally.answers, rush.tally.people_done
        refused = sum(found.values()) - found["accepted"] - found["repeated"]
        print(
            f"people {people_done:>6}/{rush.config.members}  accepted {found['accepted']:>6}"
            f"  repeated {found['repeated']:>6}  refused {refused:>6}  errors {sum(rush.tally.errors.values())}",
            file=out,
            flush=True,
        )


@events.quitting.add_listener
def _end(environment: Environment, **_: object) -> None:
    rush.tally.close()
    environment.process_exit_code = 1 if rush.tally.broken else 0
