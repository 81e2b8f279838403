"""Trains the tiny base model from real Wikipedia lead paragraphs: the model in this directory.

    python examples/tiny-base/train.py --passages wikipedia.jsonl --exclude popqa.jsonl \
        --exclude hotpotqa.jsonl --exclude 2wikimultihopqa.jsonl --out /tmp/tiny-base

A Llama of a few million parameters learns two things: how such paragraphs are written, and to
answer questions on their lead facts from a passage in its prompt. One training sequence is one to
three passages followed by several questions; each question attends to the passages and to itself
only, so that the passages are computed once for all of them. Questions without a passage teach the
form of an answer. No passage of an --exclude file, by title, is ever seen, nor are the held-out
wordings of `polyprag.augment.phrasings`, nor the development passages (every 14th).
"""

import argparse
import json
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from polyprag.augment.facts import tidy
from polyprag.augment.rules import augment
from polyprag.method.prompts import completion, passage_block, qa_prompt
from sharding.corpus.passages import QA, Passage

EOS, PAD = "<|endoftext|>", "<|pad|>"
DEVELOPMENT_EVERY = 14
ANSWER_WEIGHT, QUESTION_WEIGHT = 3.0, 0.2
MAX_PASSAGE_TOKENS = 192


def read_passages(path: Path, excluded_titles: set[str]) -> tuple[list[Passage], list[Passage]]:
    """Returns (training passages, development passages), without the excluded titles."""
    training, development = [], []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
        row = json.loads(line)
        if row["title"].casefold() in excluded_titles:
            continue
        passage = Passage(id=number, key=row["id"], title=row["title"], text=row["text"])
        (development if number % DEVELOPMENT_EVERY == 0 else training).append(passage)
    return training, development


def titles_of_questions(paths: list[Path]) -> set[str]:
    """Returns the titles, case-folded, of every passage in question files."""
    rows = (json.loads(line) for path in paths for line in path.read_text("utf-8").splitlines())
    return {passage["title"].casefold() for row in rows for passage in row["passages"]}


def train_tokenizer(texts: list[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Trains a byte-level BPE tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[EOS, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=EOS, pad_token=PAD)


@dataclass
class Sequence:
    """Tokens with, for each, its position, loss weight and segment (0: the shared passages)."""

    ids: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    segments: list[int] = field(default_factory=list)

    def add(self, ids: list[int], weight: float, *, start: int, segment: int) -> None:
        """Appends tokens whose positions count on from `start`."""
        self.ids += ids
        self.weights += [weight] * len(ids)
        self.positions += range(start, start + len(ids))
        self.segments += [segment] * len(ids)


class SequenceMaker:
    """Makes training sequences from passages."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, rng: random.Random) -> None:
        """Remembers the tokenizer and the source of randomness."""
        self.tokenizer, self.rng = tokenizer, rng

    def encode(self, text: str) -> list[int]:
        """Token ids of a text."""
        return list(self.tokenizer(text, split_special_tokens=True)["input_ids"])

    def reading(self, passages: list[Passage], num_questions: int) -> Sequence:
        """Passages, then questions that each see only the passages and themselves."""
        sequence = Sequence()
        start = 0
        for passage in passages:
            text = tidy(passage.text) if self.rng.random() < 0.8 else passage.text
            ids = self.encode(passage_block(passage.title, text).rstrip("\n"))
            ids = ids[:MAX_PASSAGE_TOKENS] + self.encode("\n")
            sequence.add(ids, 1.0, start=start, segment=0)
            start += len(ids)
        qas = [qa for passage in passages for qa in self.questions(passage)]
        self._ask(sequence, self.rng.sample(qas, min(num_questions, len(qas))), start)
        return sequence

    def closed(self, passages: list[Passage]) -> Sequence:
        """Questions alone, each seeing only itself."""
        sequence = Sequence()
        self._ask(
            sequence, [self.rng.choice(qas) for p in passages if (qas := self.questions(p))], 0
        )
        return sequence

    def questions(self, passage: Passage) -> list[QA]:
        """A passage's questions in wordings drawn anew."""
        return list(augment(passage, num_rewrites=0, num_qas=12, seed=self.rng.getrandbits(32)).qas)

    def _ask(self, sequence: Sequence, qas: list[QA], start: int) -> None:
        for segment, qa in enumerate(qas, start=1):
            prompt = self.encode(qa_prompt(qa.question))
            answer = [*self.encode(completion(qa.answer)), self.tokenizer.eos_token_id]
            sequence.add(prompt, QUESTION_WEIGHT, start=start, segment=segment)
            sequence.add(answer, ANSWER_WEIGHT, start=start + len(prompt), segment=segment)


def batches(
    training: list[Passage], maker: SequenceMaker, rng: random.Random, tokens_per_batch: int
) -> Iterator[list[Sequence]]:
    """Endless batches of sequences of like length, in an order drawn anew each epoch."""
    while True:
        order = rng.sample(training, len(training))
        sequences: list[Sequence] = []
        position = 0
        while position < len(order):
            draw = rng.random()
            if draw < 0.15:
                taken, sequence = 10, maker.closed(order[position : position + 10])
            elif draw < 0.35:
                taken = rng.choice((2, 3))
                sequence = maker.reading(order[position : position + taken], 8)
            else:
                taken, sequence = 1, maker.reading(order[position : position + 1], 6)
            position += taken
            if sequence.ids:
                sequences.append(sequence)
            if len(sequences) >= 512 or position >= len(order):
                yield from _length_grouped(sequences, rng, tokens_per_batch)
                sequences = []


def _length_grouped(
    sequences: list[Sequence], rng: random.Random, tokens_per_batch: int
) -> list[list[Sequence]]:
    groups: list[list[Sequence]] = []
    for sequence in sorted(sequences, key=lambda one: len(one.ids)):
        if groups and (len(groups[-1]) + 1) * len(sequence.ids) <= tokens_per_batch:
            groups[-1].append(sequence)
        else:
            groups.append([sequence])
    rng.shuffle(groups)
    return groups


def collate(group: list[Sequence], pad_id: int) -> dict[str, torch.Tensor]:
    """Pads a group to (B, T) and writes its attention mask, (B, 1, T, T), True where allowed."""
    length = max(len(one.ids) for one in group)

    def padded(name: str, fill: float, dtype: torch.dtype) -> torch.Tensor:
        rows = [getattr(one, name) + [fill] * (length - len(one.ids)) for one in group]
        return torch.tensor(rows, dtype=dtype)

    segments = padded("segments", -1, torch.long)
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    sees = (segments[:, None, :] == 0) | (segments[:, None, :] == segments[:, :, None])
    return {
        "ids": padded("ids", pad_id, torch.long),
        "weights": padded("weights", 0.0, torch.float32),
        "positions": padded("positions", 0, torch.long),
        "segments": segments,
        "mask": (sees & causal)[:, None],
    }


def loss_of(model: LlamaForCausalLM, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, float]:
    """Returns the weighted mean loss, and the mean loss of the answers' tokens alone."""
    logits = model(
        input_ids=batch["ids"],
        attention_mask=batch["mask"],
        position_ids=batch["positions"],
        use_cache=False,
    ).logits[:, :-1]
    # A token is predicted from the one before it only within its own segment.
    weights = batch["weights"][:, 1:] * (batch["segments"][:, 1:] == batch["segments"][:, :-1])
    losses = functional.cross_entropy(
        logits.flatten(0, 1), batch["ids"][:, 1:].flatten(), reduction="none"
    )
    answers = weights.flatten() == ANSWER_WEIGHT
    loss = (losses * weights.flatten()).sum() / weights.sum()
    return loss, float(losses.detach()[answers].mean())


def new_model(args: argparse.Namespace, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Returns the untrained model."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=args.hidden,
        intermediate_size=args.intermediate,
        num_hidden_layers=args.layers,
        num_attention_heads=args.heads,
        num_key_value_heads=args.heads,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalised (Jordan et al., 2024), scaled to Adam's size.

    torch.optim.Muon iterates in bf16, which a CPU without bf16 instructions does 20 times slower.
    """

    def __init__(
        self, weights: list[torch.nn.Parameter], lr: float, momentum: float = 0.95
    ) -> None:
        """Takes matrices only."""
        super().__init__(weights, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One update; matrices of one shape go through the iteration together."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[torch.nn.Parameter]] = {}
            for weight in group["params"]:
                shapes.setdefault(weight.shape, []).append(weight)
            for shape, weights in shapes.items():
                updates = torch.stack([self._momentum(w, group["momentum"]) for w in weights])
                scale = group["lr"] * 0.2 * math.sqrt(max(shape))
                for weight, update in zip(weights, orthogonalised(updates), strict=True):
                    weight.mul_(1 - 0.01 * group["lr"]).sub_(update, alpha=scale)

    def _momentum(self, weight: torch.nn.Parameter, momentum: float) -> torch.Tensor:
        buffer = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
        buffer.lerp_(weight.grad, 1 - momentum)
        return weight.grad.lerp(buffer, momentum)


def orthogonalised(matrices: torch.Tensor) -> torch.Tensor:
    """Newton-Schulz iteration on a stack (N, rows, columns): singular values towards 1."""
    wide = matrices.mT if matrices.shape[-2] > matrices.shape[-1] else matrices
    wide = wide / (wide.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = wide @ wide.mT
        wide = 3.4445 * wide + (-4.7750 * gram + 2.0315 * gram @ gram) @ wide
    return wide.mT if matrices.shape[-2] > matrices.shape[-1] else wide


def optimizers_of(model: LlamaForCausalLM, args: argparse.Namespace) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices, Adam for embeddings and norms."""
    blocks = [weight for weight in model.model.layers.parameters() if weight.ndim == 2]
    inside = {id(weight) for weight in blocks}
    rest = [weight for weight in model.parameters() if id(weight) not in inside]
    return [
        Muon(blocks, lr=args.muon_lr),
        torch.optim.AdamW(rest, lr=args.adam_lr, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def rate_factor(done: float) -> float:
    """Learning-rate factor: a short warm-up, constant, then linear to zero over the last 40 %."""
    return min(1.0, done / 0.01 + 0.02, max(0.0, (1 - done) / 0.4))


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Writes the model in the layout of `from_pretrained`."""
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def save_progress(
    path: Path,
    model: LlamaForCausalLM,
    optimizers: list[torch.optim.Optimizer],
    counts: dict[str, int],
) -> None:
    """Writes what a stopped run continues from."""
    states = [optimizer.state_dict() for optimizer in optimizers]
    temporary = path.with_suffix(".tmp")
    torch.save({"model": model.state_dict(), "optimizers": states, **counts}, temporary)
    temporary.rename(path)


def main() -> None:
    """Trains and saves."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--passages", type=Path, required=True, help="JSON lines: id, title, text")
    parser.add_argument("--exclude", type=Path, action="append", default=[], help="question files")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokens", type=float, default=16e6, help="padding included")
    parser.add_argument("--tokens-per-batch", type=int, default=4096)
    parser.add_argument("--vocab", type=int, default=4096)
    parser.add_argument("--hidden", type=int, default=192)
    parser.add_argument("--intermediate", type=int, default=512)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--muon-lr", type=float, default=6e-3)
    parser.add_argument("--adam-lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, help="a model that this script made, to go on from")
    args = parser.parse_args()

    training, _ = read_passages(args.passages, titles_of_questions(args.exclude))
    torch.manual_seed(args.seed)
    if args.start is None:
        tokenizer = train_tokenizer([tidy(p.title + ". " + p.text) for p in training], args.vocab)
        model = new_model(args, tokenizer)
    else:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(args.start)
        model = LlamaForCausalLM.from_pretrained(args.start)
    print(f"{len(training):,} passages, {model.num_parameters():,} parameters", flush=True)
    optimizers = optimizers_of(model, args)
    base_rates = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    done_tokens, step = 0, 0
    args.out.mkdir(parents=True, exist_ok=True)
    progress = args.out / "progress.pt"
    if progress.exists():
        state = torch.load(progress, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, optimizer_state in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(optimizer_state)
        done_tokens, step = state["tokens"], state["step"]
        print(f"continues from step {step}", flush=True)
    rng = random.Random(f"{args.seed}/{step}")
    stream = batches(training, SequenceMaker(tokenizer, rng), rng, args.tokens_per_batch)
    first_tokens, started = done_tokens, time.monotonic()
    running, running_answers = math.nan, math.nan
    while done_tokens < args.tokens:
        batch = collate(next(stream), tokenizer.pad_token_id)
        loss, answer_loss = loss_of(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, rate in zip(optimizers, base_rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * rate_factor(done_tokens / args.tokens)
            optimizer.step()
            optimizer.zero_grad()
        done_tokens += batch["ids"].numel()
        step += 1
        running = smoothed(running, float(loss.detach()))
        running_answers = smoothed(running_answers, answer_loss)
        if step % 50 == 0:
            rate = (done_tokens - first_tokens) / (time.monotonic() - started)
            print(
                f"step {step}  tokens {done_tokens / 1e6:.2f}M  loss {running:.3f}  "
                f"answers {running_answers:.3f}  {rate:,.0f} tokens/s  "
                f"{(args.tokens - done_tokens) / rate / 60:.0f} min left",
                flush=True,
            )
        if step % 100 == 0:
            save(model, tokenizer, args.out)
            save_progress(progress, model, optimizers, {"tokens": done_tokens, "step": step})
    save(model, tokenizer, args.out)
    progress.unlink(missing_ok=True)


def smoothed(average: float, value: float) -> float:
    """Exponential average over about 50 steps."""
    return value if math.isnan(average) else 0.98 * average + 0.02 * value


if __name__ == "__main__":
    main()
