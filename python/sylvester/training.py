"""The training loop behind the command line: one model, one task, until solved, out of steps or interrupted."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from .checkpoints import CheckpointError, Checkpoints
from .settings import Settings
from .tasks import TEST, VALIDATION, Task

Outcome = Literal["solved", "out of steps", "interrupted", "diverged"]


@dataclass(frozen=True)
class Progress:
    """One update, on its training batch."""

    step: int
    loss: float
    score: float
    seconds: float


@dataclass(frozen=True)
class Evaluation:
    """Means over ``count`` sequences that training never drew."""

    loss: float
    score: float
    count: int


@dataclass
class Result:
    outcome: Outcome = "out of steps"
    history: list[Progress] = field(default_factory=list)

    @property
    def steps(self) -> int:
        return len(self.history)

    @property
    def seconds(self) -> float:
        return self.history[-1].seconds if self.history else 0.0


def train(
    model: Any,
    task: Task,
    settings: Settings,
    progress: Callable[[Progress], None] = lambda _: None,
    checkpoints: Checkpoints | None = None,
    state: Mapping[str, Any] | None = None,
) -> Result:
    """Train in place, calling ``progress`` after every update.

    Stops when fresh sequences are solved with something to spare. Ctrl-C ends the training after the update it falls
    into, and the result says "interrupted"; a second one is an ordinary KeyboardInterrupt.

    ``checkpoints`` are written as they fall due and on Ctrl-C, and removed when the training ends by itself. Given the
    ``state`` that one holds, the training goes on from there and equals, bit for bit on one thread, one that was never
    interrupted. CheckpointError when that state is of another model or task.
    """
    running = _Training(model, task, settings)
    if state is not None:
        running.load_state_dict(state)
    result = running.result
    model.train()
    with _interruption() as interrupted:
        for _ in range(result.steps, settings.steps):
            if not running.update():
                result.outcome = "diverged"
                break
            now = result.history[-1]
            progress(now)
            if now.step % settings.evaluate_every == 0 and _solved(model, task, settings, now):
                result.outcome = "solved"
                break
            if interrupted():
                result.outcome = "interrupted"
            if checkpoints and (interrupted() or checkpoints.due(now.step)):
                checkpoints.save(running.state_dict())
            if result.outcome == "interrupted":
                break
    if checkpoints and result.outcome != "interrupted":
        checkpoints.remove()
    model.eval()
    return result


class _Training:
    """Everything that an update changes."""

    def __init__(self, model: Any, task: Task, settings: Settings) -> None:
        self.model, self.task, self.settings = model, task, settings
        self.optimizer = settings.make_optimizer(model)
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.draws = task.draws(settings.seed)
        self.device = next(model.parameters()).device
        self.result = Result()
        self.start = time.perf_counter()

    def update(self) -> bool:
        """Make one update; False, and the model as it was, when the loss is not finite."""
        step = self.result.steps + 1
        inputs, targets = (part.to(self.device) for part in self.draws.draw(self.settings.batch_size))
        output, _ = self.model(inputs)
        loss = self.task.loss(output, targets)
        self.optimizer.zero_grad()
        loss.backward()
        if not math.isfinite(loss.item()):
            return False
        if self.settings.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * self.settings.schedule_factor(step)
        self.optimizer.step()
        score = self.task.score(output.detach(), targets)
        self.result.history.append(Progress(step, loss.item(), score, time.perf_counter() - self.start))
        return True

    def state_dict(self) -> dict[str, Any]:
        history = [(entry.loss, entry.score, entry.seconds) for entry in self.result.history]
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "draws": self.draws.state_dict(),
            "history": torch.tensor(history, dtype=torch.float64).reshape(-1, 3),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.draws.load_state_dict(state["draws"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise CheckpointError(f"the checkpoint does not fit this model and task: {error}") from None
        self.result.history[:] = [Progress(step, *row) for step, row in enumerate(state["history"].tolist(), 1)]
        self.start = time.perf_counter() - self.result.seconds


def _solved(model: Any, task: Task, settings: Settings, now: Progress) -> bool:
    """Whether the training batch is solved and then, with something to spare, fresh sequences are."""
    if settings.spare == 0 or not task.solved(now.loss, now.score):
        return False
    fresh = evaluate(model, task, settings.evaluation_sequences, seed=settings.seed, stream=VALIDATION)
    return task.solved(fresh.loss, fresh.score, settings.spare)


@contextmanager
def _interruption() -> Iterator[Callable[[], bool]]:
    """Yields whether Ctrl-C was pressed; the second press is not caught. Outside the main thread none arrives."""
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed.is_set
        return

    def press(*_: object) -> None:
        pressed.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, press)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before)


def evaluate(model: Any, task: Task, count: int, *, seed: int, stream: int = TEST, batch_size: int = 128) -> Evaluation:
    """Means over about ``count`` sequences that training never drew: whole batches, or what the data set has."""
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    total, loss, score = 0, 0.0, 0.0
    with torch.inference_mode():
        for inputs, targets in task.examples(stream, count, batch_size, seed):
            inputs, targets = inputs.to(device), targets.to(device)
            output, _ = model(inputs)
            size = inputs.shape[1]
            loss += size * task.loss(output, targets).item()
            score += size * task.score(output, targets)
            total += size
    model.train(training)
    return Evaluation(loss / total, score / total, total)
