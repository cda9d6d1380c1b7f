"""Run a model's state machine until its examples have contained everything that the model is about."""

from collections import Counter
from collections.abc import Collection
from typing import ClassVar

from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

ROUNDS = 10
"""A further round runs only if chance has left something out."""


class Model(RuleBasedStateMachine):
    """A state machine that counts in `reached` what happened, in all examples."""

    reached: ClassVar[Counter[str]]


def unreached(model: type[Model], everything: Collection[str], *, max_examples: int, steps: int) -> set[str]:
    """Run the model, at most ROUNDS times. Return what of `everything` no example contained."""
    model.reached.clear()
    for _ in range(ROUNDS):
        run_state_machine_as_test(
            model,
            settings=settings(
                max_examples=max_examples,
                stateful_step_count=steps,
                deadline=None,
                derandomize=False,  # each round has other examples, also where `CI` is set
                suppress_health_check=[HealthCheck.too_slow],
            ),
        )
        missing = {what for what in everything if not model.reached[what]}
        if not missing:
            break
    return missing
