"""Random histories of the model, and the invariants that each history must keep."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from tests.simulation.model.audit import ACCOUNTS, Look, UsagePlace, reconcile, repair
from tests.simulation.model.rollup import clean, commit, compact, roll_up, updates
from tests.simulation.model.rules import RollupPlan, Setting, Sums, figures, newest, numbers_of, runs_in, summed, text
from tests.simulation.model.world import BrokenError, Faults, Item, Place, Steps, World, get_object, query

_LOOKS = 6
Answer = dict[tuple[int, str], int]


def as_of_now(account: str, setting: Setting, report: Callable[[Answer], None]) -> Steps[None]:
    for _ in range(_LOOKS):
        answer = yield from _look(account, setting)
        if answer is not None:
            report(answer)
            return


def _look(account: str, setting: Setting) -> Steps[Answer | None]:
    before = yield from _states(setting.shards)
    waiting = yield from _waiting(setting.shards)
    items = {(account, sk): item for sk, item in (yield from query("usage", account))}
    if setting.keeps("P28 second look") and (yield from _states(setting.shards)) != before:
        return None
    numbers = yield from numbers_of(account)
    return (yield from _sum(account, setting, before, waiting, items, numbers))


def _sum(
    account: str,
    setting: Setting,
    before: list[tuple[int, Item] | None],
    waiting: list[list[str]],
    items: dict[UsagePlace, Item],
    numbers: dict[str, int],
) -> Steps[Answer | None]:
    total: Answer = {}
    for place, item in items.items():
        _count(total, place, figures(item), numbers)
    for shard, run in enumerate(before):
        planned: set[str] = set()
        if run and run[1]["state"] == "planned":
            plan = yield from get_object(text(run[1], "plan"))
            if not isinstance(plan, RollupPlan):
                return None
            planned |= plan.commits.keys()
            adds = updates(_of_account(plan, account), {account: numbers})
            left = {at: sums for at, sums in adds.items() if not _has_landed(items.get(at), shard, run[0], setting)}
            for place, sums in left.items():
                _count(total, place, sums, numbers)
        if not (yield from _count_staged(total, account, sorted(set(waiting[shard]) - planned))):
            return None
    return total


def _has_landed(item: Item | None, shard: int, number: int, setting: Setting) -> bool:
    return runs_in(item).get(shard, 0) >= number and setting.keeps("P28 asks the item's number")


def _count_staged(total: Answer, account: str, commits: list[str]) -> Steps[bool]:
    for commit_id in commits:
        staged = yield from get_object(f"staging/{commit_id}")
        if staged is None:
            return False
        assert isinstance(staged, dict)
        for (its_account, hour, kind), value in staged.items():
            if its_account == account:
                total[hour, kind] = total.get((hour, kind), 0) + value
    return True


def _waiting(shards: int) -> Steps[list[list[str]]]:
    waiting = []
    for shard in range(shards):
        waiting.append([sk for sk, _ in (yield from query("ledger", f"W{shard}"))])
    return waiting


def _states(shards: int) -> Steps[list[tuple[int, Item] | None]]:
    states = []
    for shard in range(shards):
        states.append((yield from newest(f"U{shard}")))
    return states


def _count(total: Answer, place: UsagePlace, sums: dict[str, int], numbers: dict[str, int]) -> None:
    names = {number: kind for kind, number in numbers.items()}
    hour, _, kind = place[1].partition("/")
    for name, value in sums.items():
        key = int(hour), kind[1:] if name == "b" else names[int(name[1:])]
        total[key] = total.get(key, 0) + value


def _of_account(plan: RollupPlan, account: str) -> RollupPlan:
    return RollupPlan(
        {},
        {key: sums for key, sums in plan.numbered.items() if key[0] == account},
        {key: sums for key, sums in plan.named.items() if key[0] == account},
    )


HOURS = 2
KINDS = ("k0", "k1", "k2", "k3", "k4")
_FAULTS = Faults(killed=0.004, lost_before=0.01, lost_after=0.02, later=0.01)
_QUIET = Faults()


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """Events of a history, in addition to its traffic.

    Attributes:
        lost: Number of losses, each of one usage item or of all of them.
        spoilt: Number of manual writes, each of which sets or removes attributes of a usage item.
    """

    commits: int = 12
    lost: int = 0
    spoilt: int = 0


@dataclass(slots=True)
class History:
    """One history, determined by its seed.

    Raises:
        BrokenError: `play` found a violation of the rules.
    """

    seed: int
    setting: Setting
    course: Course
    rng: random.Random = field(init=False)
    world: World = field(init=False)
    sent: dict[str, Sums] = field(default_factory=dict)
    damaged: dict[UsagePlace, int] = field(default_factory=dict)
    mended: dict[UsagePlace, int] = field(default_factory=dict)
    digits: int = 0

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)  # one seed, one history
        self.world = World(rng=self.rng, faults=_FAULTS, on_usage=self.check_item)

    def play(self) -> None:
        steps = self.rng.randint(500, 1500)
        events = {self.rng.randrange(steps // 4, steps): self.lose for _ in range(self.course.lost)}
        events |= {self.rng.randrange(steps // 4, steps): self.spoil for _ in range(self.course.spoilt)}
        for step in range(steps):
            self.begin_some()
            if self.world.can_step:
                self.world.step()
            if step in events:
                events[step]()
        self.drain()

    # What goes on ----------------------------------------------------------------------------------------------------

    def begin_some(self) -> None:
        """Occasionally start a process."""
        if self.rng.random() > 0.25:
            return
        working = self.world.names_at_work()
        name = self.rng.choice(("commit", "roll", "roll", "roll", "compact", "clean", "reconcile", "repair", "now"))
        if working.count(name) < (1 if name == "clean" else 3):
            self.world.start(name, self.process(name))

    def process(self, name: str) -> Steps[None]:
        shard, hour = self.rng.randrange(self.setting.shards), self.rng.randrange(HOURS)
        own = random.Random(self.rng.random())  # one seed, one history
        if name == "commit":
            return self.commit(shard)
        if name == "roll":
            setting = (
                replace(self.setting, cap=self.setting.raised_cap or self.setting.cap)
                if own.random() < 0.5
                else self.setting
            )
            return roll_up(shard, setting, own, self.world.token())
        if name == "compact":
            return compact(shard, own, self.world.token())
        if name == "clean":
            return clean(shard)
        if name == "reconcile":
            return reconcile(hour, self.setting, self.differs)
        if name == "repair":
            return repair(hour, self.setting, self.differs, self.repaired)
        return self.report(self.rng.choice(ACCOUNTS))

    def commit(self, shard: int) -> Steps[None]:
        """One more commit, whose sums use an octal digit of their own."""
        if self.digits >= self.course.commits:
            return
        self.digits += 1
        commit_id = f"c{self.world.token()}"
        keys = {
            (self.rng.choice(ACCOUNTS), self.rng.randrange(HOURS), self.rng.choice(KINDS))
            for _ in range(self.rng.randint(1, 4))
        }
        self.sent[commit_id] = dict.fromkeys(sorted(keys), 8**self.digits)
        yield from commit(commit_id, self.sent[commit_id], shard)

    def lose(self) -> None:
        """Delete one usage item, or all of them."""
        places = [place for place in self.world.items if place[0] == "usage"]
        if places and self.rng.random() < 0.5:
            places = [self.rng.choice(places)]
        for place in places:
            del self.world.items[place]
            self.damaged[place[1], place[2]] = self.world.steps

    def spoil(self) -> None:
        """Change a usage item by hand: set or remove attributes. The manual write never changes the revision."""
        places = sorted(place for place in self.world.items if place[0] == "usage")
        if not places:
            return
        place = self.rng.choice(places)
        item = self.world.items[place]
        held = sorted(figures(item)) or ["b0"]
        way = self.rng.randrange(7)
        if way == 0:
            item["mine"] = 777
        elif way == 1:
            item[self.rng.choice(held)] = "mine"
        elif way == 2:
            item.pop(self.rng.choice(held), None)
        elif way == 3:
            item["v"] = "mine"
        else:
            gone = {"v"} if way < 6 else set()
            gone |= {name for name in item if name.startswith("n")} if way > 4 else set()
            self.world.items[place] = {name: value for name, value in item.items() if name not in gone}
        self.damaged[place[1], place[2]] = self.world.steps

    # What must hold --------------------------------------------------------------------------------------------------

    def is_committed(self, commit_id: str) -> bool:
        return ("ledger", "C", commit_id) in self.world.items

    def waits(self, commit_id: str) -> bool:
        return any(("ledger", f"W{shard}", commit_id) in self.world.items for shard in range(self.setting.shards))

    def differs(self, look: Look) -> None:
        """Check that a difference in a settled usage item was caused by damage (P37)."""
        if look.place not in self.damaged and self.mended.get(look.place, -1) < look.begun:
            raise BrokenError(f"P37: {look} differs, and nothing was lost")

    def repaired(self, place: UsagePlace, begun: int) -> None:
        """Record a repair, which ends the damage that was done before the repair read the item."""
        if self.damaged.get(place, begun) < begun:
            del self.damaged[place]
            self.mended[place] = self.world.steps

    def check_item(self, place: Place) -> None:
        """Check that an undamaged usage item equals the sums of all runs up to its run numbers."""
        if place[1:] in self.damaged:
            return
        item = self.world.items[place]
        expected: dict[str, int] = {}
        for shard, last in runs_in(item).items():
            for key, run in list(self.world.items.items()):
                if key[:2] == ("ledger", f"RU{shard}") and int(key[2]) <= last:
                    plan = self.world.ever[text(run, "plan")]
                    assert isinstance(plan, RollupPlan)
                    for name, value in updates(plan, self.numbers()).get((place[1], place[2]), {}).items():
                        expected[name] = expected.get(name, 0) + value
        held = {name: value for name, value in figures(item).items() if value}
        if held != expected:
            raise BrokenError(f"P23, P38: {place} holds {show(held)}, its runs add {show(expected)}: {item}")

    def numbers(self) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = {account: {} for account in ACCOUNTS}
        for place, item in self.world.items.items():
            if place[1].startswith("D") and place[2].startswith("N#"):
                found[place[1][1:]][text(item, "kind")] = int(place[2][2:])
        return found

    def report(self, account: str) -> Steps[None]:
        """Run a reader, and check that its result has all commits before its start, and perhaps later commits (P28)."""
        before = {
            commit_id
            for commit_id in self.sent
            if self.is_committed(commit_id) and not self.world.is_landing(("ledger", "C", commit_id))
        }

        begun = self.world.steps

        def check(answer: dict[tuple[int, str], int]) -> None:
            if not self.damaged and all(step < begun for step in self.mended.values()):
                self.check_report(account, answer, before)

        yield from as_of_now(account, self.setting, check)

    def check_report(self, account: str, answer: dict[tuple[int, str], int], before: set[str]) -> None:
        """Check that a report counts each commit at most once, and counts every commit in `before`."""
        for commit_id, sums in self.sent.items():
            digit = max(sums.values())
            for hour, kind in {(key[1], key[2]) for key in sums if key[0] == account}:
                counted = answer.get((hour, kind), 0) // digit % 8
                if counted > 1 or (counted == 0 and commit_id in before):
                    raise BrokenError(f"P28: {commit_id} is counted {counted} times in {account} {hour} {kind}")
        for (hour, kind), value in answer.items():
            known = sum(
                sums.get((account, hour, kind), 0)
                for commit_id, sums in self.sent.items()
                if self.is_committed(commit_id)
            )
            if value > known:
                raise BrokenError(f"P28: {account} {hour} {kind}: {value:o} of {known:o}")

    def drain(self) -> None:
        """Finish all processes, then run all jobs without faults, and compare everything."""
        world = self.world
        while world.can_step:
            world.step()
        world.faults = _QUIET
        for _ in range(2):
            for name in ("roll", "compact", "clean", "repair"):
                for shard in range(max(self.setting.shards, HOURS)):
                    for _ in range(14 if name == "roll" else 6):
                        self.run_alone(name, shard)
        self.check_end()

    def run_alone(self, name: str, index: int) -> None:
        own = random.Random(index)  # one seed, one history
        if name == "repair":
            made = repair(index % HOURS, self.setting, self.differs, self.repaired)
        elif index >= self.setting.shards:
            return
        elif name == "roll":
            made = roll_up(index, self.setting, own, self.world.token())
        elif name == "compact":
            made = compact(index, own, self.world.token())
        else:
            made = clean(index)
        self.world.start(name, made)
        while self.world.can_step:
            self.world.step()

    def used(self) -> Sums:
        used: Sums = {}
        names = {account: {number: kind for kind, number in each.items()} for account, each in self.numbers().items()}
        for place, item in self.world.items.items():
            hour, _, rest = place[2].partition("/")
            for name, value in figures(item).items() if place[0] == "usage" else ():
                key = place[1], int(hour), rest[1:] if name == "b" else names[place[1]][int(name[1:])]
                used[key] = used.get(key, 0) + value
        return used

    def check_end(self) -> None:
        """Check that no commit waits, and that usage by kind name equals the sums of the commits."""
        left = [place for place in self.world.items if place[1][0] in "W" and place[0] == "ledger"]
        if left:
            raise BrokenError(f"the end: {left} wait")
        true = summed(sums for commit_id, sums in self.sent.items() if self.is_committed(commit_id))
        used = self.used()
        used = {key: value for key, value in used.items() if value}
        if used != true:
            wrong = {key: (f"{used.get(key, 0):o}", f"{true.get(key, 0):o}") for key in used.keys() | true.keys()}
            raise BrokenError(f"the end: {[f'{k} {v}' for k, v in wrong.items() if v[0] != v[1]]}")


def show(sums: dict[str, int]) -> dict[str, str]:
    """Sums as octal text; each commit has its own digit."""
    return {name: f"{value:o}" for name, value in sums.items()}
