"""The promise: a wrong campaign is told by file and field, all faults at once; a copy keeps each time of its day."""

from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import towns
from engine.campaigns.spec import CampaignInvalid, CampaignSpec, changed, copied, later, parse, parse_yaml
from engine.ids import IdInvalid
from engine.members.predicate import Predicate
from tests.factories.campaigns import campaign_json, campaign_spec, part

EXAMPLE = (Path(__file__).parents[3] / "examples" / "mid-autumn.yaml").read_text(encoding="utf-8")
ZONES = ("Asia/Shanghai", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "UTC")
DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
)


class TestFaults:
    @pytest.mark.parametrize(
        "text", ["", "5", "- a", "null", "\t", "a: &a [*a]", "!!python/object:os.system {}", "\x00"]
    )
    def test_of_what_is_no_campaign_at_all(self, text: str) -> None:
        with pytest.raises(CampaignInvalid, match=r"^f\.yaml: "):
            parse_yaml(text, "f.yaml")

    def test_of_an_oversized_file(self) -> None:
        with pytest.raises(CampaignInvalid, match="larger than"):
            parse_yaml("a: " + "x" * 1_100_000, "f.yaml")

    @given(DATA)
    def test_no_data_breaks_the_parser(self, data: object) -> None:
        with pytest.raises(CampaignInvalid):
            parse(data, "any")

    @given(st.sampled_from(sorted(CampaignSpec.model_fields)), DATA)
    def test_no_value_breaks_the_parser(self, name: str, value: object) -> None:
        """Either it is a campaign, or it is told what is wrong; never anything else."""
        with suppress(CampaignInvalid):
            found = parse(campaign_json() | {name: value}, "f.yaml")
            assert parse(found.stated(), "again") == found

    @given(st.sets(st.sampled_from(["theme", "limits", "organisation", "time_zone", "drops"]), min_size=1))
    def test_all_are_told_at_once_and_each_once(self, wrong: set[str]) -> None:
        with pytest.raises(CampaignInvalid) as refused:
            parse(campaign_json() | dict.fromkeys(wrong, 0), "f.yaml")
        told = [line.split(": ")[1] for line in refused.value.detail.splitlines()]
        assert set(told) == wrong
        assert len(told) == len(wrong)

    @pytest.mark.parametrize(
        ("opens", "closes", "words"),
        [
            ("2026-01-01T00:00:00Z", "2030-01-01T00:00:00Z", "more than 1100 days"),
            ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "the year is not"),
            ("9999-12-31T00:00:00-12:00", "9999-12-31T23:59:59-12:00", "the year is not"),
        ],
    )
    def test_windows_that_are_no_campaigns(self, opens: str, closes: str, words: str) -> None:
        with pytest.raises(CampaignInvalid, match=words):
            parse(campaign_json() | {"opens_at": opens, "closes_at": closes}, "f.yaml")

    def test_a_drops_faults_name_the_drop(self) -> None:
        wrong = EXAMPLE.replace("allocation: rush", "alocation: rush", 1)
        with pytest.raises(
            CampaignInvalid, match=r"f\.yaml: drops\.0\.alocation: unknown name: did you mean 'allocation'"
        ):
            parse_yaml(wrong, "f.yaml")

    def test_towns_that_the_city_does_not_have_are_told_once(self) -> None:
        gates = {"location": {"towns": ["大郎"]}}
        with pytest.raises(CampaignInvalid) as refused:
            parse(campaign_json(gates=gates), "f.yaml", towns.load())
        assert refused.value.detail == "f.yaml: gates.location.towns: there is no town '大郎': did you mean '大朗'?"
        with pytest.raises(CampaignInvalid, match=r"f\.yaml: drops\.1\.gates\.location\.towns: there is no town"):
            parse(campaign_json(drops=[part("goose"), part("meat", gates=gates)]), "f.yaml", towns.load())

    def test_what_a_launch_commits_to_is_left_out(self) -> None:
        opens = datetime(2026, 9, 18, 1, tzinfo=UTC)
        committed = {"key_id": 1, "partitions": 1, "secret_sha256": "0" * 64, "commitment": "0" * 64}
        curve = [{"at": opens.isoformat(), "share_ppm": 1_000_000}]
        instant = {"curve": curve, "rules": {"en": "One prize."}, "committed": committed}
        with pytest.raises(CampaignInvalid, match="it comes by the launch"):
            campaign_spec(opens_at=opens, drops=[part("wheel", allocation="instant", instant=instant)])

    def test_a_name_that_stands_twice(self) -> None:
        with pytest.raises(CampaignInvalid, match="stands twice"):
            parse_yaml(
                EXAMPLE.replace("organisation: dongguan", "organisation: dongguan\norganisation: dalang"), "f.yaml"
            )


class TestInheritance:
    def test_what_a_drop_leaves_out_is_the_campaigns(self) -> None:
        town = {"town": {"in": ["大朗"]}}
        found = campaign_spec(eligibility=town, drops=[part("goose"), part("meat", eligibility={}, organisation="x")])
        goose, meat = found.drops
        assert (goose.organisation, goose.opens_at, goose.closes_at) == ("dongguan", found.opens_at, found.closes_at)
        assert (goose.eligibility, meat.eligibility, meat.organisation) == (found.eligibility, Predicate(), "x")

    def test_it_moves_with_the_campaign(self) -> None:
        opens = datetime(2026, 9, 18, 1, tzinfo=UTC)
        own = (opens + timedelta(minutes=20)).isoformat()
        found = campaign_spec(opens_at=opens, drops=[part("goose"), part("meat", opens_at=own)])
        earlier = opens - timedelta(hours=1)
        goose, meat = changed(found, {"opens_at": earlier.isoformat()}, draft=True).drops
        assert (goose.opens_at, meat.opens_at.isoformat()) == (earlier, own)

    def test_each_drop_knows_all_that_count(self) -> None:
        found = campaign_spec("goose", "meat", "tea", counts=["goose", "tea"])
        goose, meat, tea = (drop.campaign for drop in found.placed())
        assert goose == tea
        assert goose is not None
        assert meat is not None
        assert (goose.drops, goose.limits.in_all) == (("goose", "tea"), 1)
        assert (meat.drops, meat.relatives("meat"), meat.id) == (("meat",), (), "autumn")

    def test_the_example_is_one(self) -> None:
        found = parse_yaml(EXAMPLE, "examples/mid-autumn.yaml")
        assert parse(found.stated(), "again") == found


class TestCopies:
    @given(
        st.sampled_from(ZONES).map(ZoneInfo),
        st.integers(0, 500_000_000).map(lambda seconds: datetime(2020, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)),
        st.integers(-2_000, 2_000),
    )
    def test_a_moment_keeps_its_time_of_day(self, zone: ZoneInfo, moment: datetime, days: int) -> None:
        local, moved = moment.astimezone(zone), later(moment, zone, timedelta(days=days))
        wanted = datetime.combine(local.date() + timedelta(days=days), local.time())
        is_left_out = wanted.replace(tzinfo=zone).astimezone(UTC).astimezone(zone).replace(tzinfo=None) != wanted
        if is_left_out:  # by the clocks of that day
            assert timedelta() < moved.replace(tzinfo=None, fold=0) - wanted <= timedelta(hours=1)
        else:
            assert moved.replace(tzinfo=None, fold=0) == wanted.replace(fold=0)

    @pytest.mark.parametrize(
        ("opens", "on", "moved"),
        [
            ("2026-03-28T10:00:00+01:00", "2026-03-29", "2026-03-29T10:00:00+02:00"),
            ("2026-10-24T10:00:00+02:00", "2026-10-25", "2026-10-25T10:00:00+01:00"),
            ("2026-10-24T02:30:00+02:00", "2027-03-28", "2027-03-28T03:30:00+02:00"),  # 02:30 is left out on that day
            ("2024-02-29T10:00:00+01:00", "2025-03-01", "2025-03-01T10:00:00+01:00"),
        ],
    )
    def test_across_a_change_of_the_clocks(self, opens: str, on: str, moved: str) -> None:
        closes = datetime.fromisoformat(opens) + timedelta(hours=9)
        moment = {"opens_at": datetime.fromisoformat(opens), "closes_at": closes.isoformat()}
        spec = campaign_spec(**moment, time_zone="Europe/Berlin")
        found = copied(spec, "next", date.fromisoformat(on))
        assert found.opens_at.isoformat() == moved
        assert {drop.opens_at.isoformat() for drop in found.drops} == {moved}

    def test_every_moment_moves_and_nothing_else(self) -> None:
        opens = datetime(2026, 9, 18, 1, tzinfo=UTC)
        waves = [
            {"at": opens.isoformat(), "stock": {"box": 4}},
            {"at": (opens + timedelta(minutes=9)).isoformat(), "stock": {"box": 6}},
        ]
        reserve = [{"item": "box", "town": "大朗", "stock": 2, "until": (opens + timedelta(minutes=5)).isoformat()}]
        spec = campaign_spec(opens_at=opens, drops=[part("autumn-goose", waves=waves, allotments=reserve)])
        (old,), (new,) = spec.drops, copied(spec, "spring", date(2027, 2, 6)).drops
        gap = new.opens_at - old.opens_at
        assert [wave.at for wave in new.waves] == [wave.at + gap for wave in old.waves]
        assert new.allotments[0].until == old.allotments[0].until + gap
        assert (new.id, new.items, new.title) == ("spring-goose", old.items, old.title)

    def test_an_instant_wins_curve_moves_along(self) -> None:
        opens = datetime(2026, 9, 18, 1, tzinfo=UTC)
        curve = [{"at": (opens + timedelta(minutes=9)).isoformat(), "share_ppm": 1_000_000}]
        wheel = part("autumn-wheel", allocation="instant", instant={"curve": curve, "rules": {"en": "One prize."}})
        spec = campaign_spec(opens_at=opens, drops=[wheel])
        (old,), (new,) = spec.drops, copied(spec, "spring", date(2027, 2, 6)).drops
        assert old.instant is not None
        assert new.instant is not None
        assert new.instant.curve[0].at - old.instant.curve[0].at == new.opens_at - old.opens_at

    def test_an_item_may_be_called_as_a_moment_is(self) -> None:
        opens = datetime(2026, 9, 18, 1, tzinfo=UTC)
        item = {"id": "until", "title": {"en": "Until"}, "stock": 4}
        waves = [{"at": opens.isoformat(), "stock": {"until": 4}}]
        spec = campaign_spec(opens_at=opens, drops=[part("goose", items=[item], waves=waves)])
        assert copied(spec, "spring", date(2027, 2, 6)).drops[0].waves[0].stock == {"until": 4}

    @pytest.mark.parametrize("day", ["0001-01-01", "1999-12-31", "2200-01-01", "9999-12-31"])
    def test_days_that_no_calendar_knows(self, day: str) -> None:
        with pytest.raises(CampaignInvalid, match="the year is not"):
            copied(campaign_spec(), "spring", date.fromisoformat(day))

    def test_ids_that_do_not_fit_are_told(self) -> None:
        with pytest.raises(CampaignInvalid, match="too long"):
            copied(campaign_spec("g" * 60), "spring", date(2027, 2, 6))
        with pytest.raises(IdInvalid):
            copied(campaign_spec(), "a b", date(2027, 2, 6))
