"""Which passages retrieval finds: polyprag's methods beside bm25s, rank-bm25 and scikit-learn.

    python benchmarks/retrieval_text.py [--data DIR] [--lsa-dims D] [--lsa-sketch SHARE]
                                        [--quick] [--json FILE]

All passages of the question sets and of the passage file are one corpus, so every question is asked
among the passages of all others. DIR holds popqa.jsonl, hotpotqa.jsonl, 2wikimultihopqa.jsonl and
wikipedia.jsonl (see retrieval/corpus.py); without it PopQA alone is asked, from examples/popqa.
Recall@k is the share of a question's supporting passages among the first k. Nothing is tuned on
what is reported: the weight of the weighted fusion is chosen on the first half of each set's
questions, and what it finds is counted on the second half.

`dense` is LSA; `dense, base` the hidden states of examples/tiny-base, not trained for retrieval.
A timed search takes texts and gives the best hits of all questions in one call. polyprag's build
time is that of the whole index: passages, BM25, LSA and its vectors.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness.examples import TINY_BASE
from harness.reporting import Goal, finish, options, show
from polyprag.config import Config, IndexConfig, ModelConfig, RetrievalConfig
from polyprag.evaluation.metrics import bootstrap_interval
from polyprag.retrieval.building.index import build_index
from polyprag.retrieval.search import Index
from retrieval.corpus import Corpus, QuestionSet, read_sets
from retrieval.lexical import Bm25s, RankBm25, Searcher, TfIdf
from sharding.ingest.prepare import prepare

CUTOFFS = (1, 3, 10, 100)
DEPTH = max(CUTOFFS)
DENSE_WEIGHTS = (0.1, 0.3, 0.5, 0.7)
LEXICAL_RIVALS = ("bm25s", "rank-bm25", "tf-idf")
TIMED_K = 10  # hits of a timed search
ROUNDS = 5  # in turns; the median counts (--quick: 1)
SLOW_QUESTIONS = 100  # that rank-bm25 is timed on
NOISE = 0.005  # recall by which a hybrid may be below the better of its parts
Found = dict[str, list[list[int]]]  # by method, the ids that each question of a set finds


class Polyprag:
    """A method of an opened index, asked as a user asks it."""

    def __init__(self, index: Index, method: str) -> None:
        self._index, self._method = index, method

    def search(self, questions: Sequence[str], *, k: int) -> list[list[int]]:
        """See `Searcher`."""
        found = self._index.search(questions, k=k, method=self._method)
        return [ids[ids >= 0].tolist() for ids in found.ids]


def built(make: Callable[[], Searcher]) -> tuple[Searcher, float]:
    """What `make` makes, and the seconds that it took."""
    started = time.perf_counter()
    made = make()
    return made, time.perf_counter() - started


def polyprag_run(corpus: Corpus, directory: Path, settings: IndexConfig) -> tuple[Path, float]:
    """A run with an index of the corpus, and the seconds of building all its parts."""
    directory.mkdir()
    corpus.write(directory / "passages.jsonl")
    config, run = Config(model=ModelConfig(path=str(TINY_BASE)), index=settings), directory / "run"
    prepare(
        [str(directory / "passages.jsonl")],
        run / "corpus",
        partition_size=config.data.partition_size,
    )
    started = time.perf_counter()
    build_index(run, config)
    seconds = time.perf_counter() - started
    num_passages = Index.open(run).num_passages
    if num_passages != len(corpus.passages):
        raise RuntimeError(f"{num_passages} passages of {len(corpus.passages)} were indexed")
    return run, seconds


def recalls(
    found: Sequence[Sequence[int]], wanted: Sequence[Sequence[int]], *, k: int
) -> list[float]:
    """The share of each question's wanted passages that is among its first k."""
    return [
        len(set(ids) & set(first[:k])) / len(ids) for first, ids in zip(found, wanted, strict=True)
    ]


def measured(found: Sequence[Sequence[int]], wanted: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Recall and 'any supporting found' at each cutoff, with 95 % bootstrap intervals."""
    result: dict[str, Any] = {}
    for k in CUTOFFS:
        each = recalls(found, wanted, k=k)
        result[f"recall@{k}"] = statistics.fmean(each)
        result[f"recall@{k}_ci95"] = bootstrap_interval(each)
        anything = [float(share > 0) for share in each]
        result[f"any@{k}"] = statistics.fmean(anything)
        result[f"any@{k}_ci95"] = bootstrap_interval(anything)
    return result


def queries_a_second(
    searchers: dict[str, Searcher], questions: Sequence[str], *, k: int, rounds: int
) -> dict[str, float]:
    """The median rate of searching all questions in one call, the methods in turns."""
    spent: dict[str, list[float]] = {name: [] for name in searchers}
    for _ in range(rounds):
        for name, searcher in searchers.items():
            asked = questions[:SLOW_QUESTIONS] if name == "rank-bm25" else questions
            if name == "rank-bm25" and spent[name]:
                continue
            started = time.perf_counter()
            searcher.search(asked, k=k)
            spent[name].append(len(asked) / (time.perf_counter() - started))
    return {name: statistics.median(rates) for name, rates in spent.items()}


def hybrid(run: Path, retrieval: RetrievalConfig) -> Polyprag:
    """A way to fuse BM25 and dense."""
    return Polyprag(Index.open(run, retrieval=retrieval), "hybrid")


def name_of(dense_weight: float) -> str:
    """A weighted fusion's name in the tables."""
    return f"hybrid, dense {dense_weight}"


def on_half(found: Found, questions: QuestionSet, number: int) -> tuple[Found, list[list[int]]]:
    """What each method finds for one half of a set's questions, and the ids that they want."""
    kept = questions.half(number)
    return {method: ids[kept] for method, ids in found.items()}, questions.wanted[kept]


def mean_recall_at_10(found: dict[str, Found], sets: Sequence[QuestionSet]) -> dict[str, float]:
    """Each method's mean over the sets, on the first half of their questions."""
    of_sets: dict[str, list[float]] = {}
    for questions in sets:
        half, wanted = on_half(found[questions.name], questions, 0)
        for method, ids in half.items():
            mean = statistics.fmean(recalls(ids, wanted, k=10))
            of_sets.setdefault(method, []).append(mean)
    return {method: statistics.fmean(means) for method, means in of_sets.items()}


def show_set(title: str, methods: dict[str, dict[str, Any]]) -> None:
    """A table of the recalls, with the interval at 10."""
    show(
        title,
        ("recall", *(f"@{k}" for k in CUTOFFS), "95 % @10", "any @10"),
        [
            (
                method,
                *(f"{values[f'recall@{k}']:.3f}" for k in CUTOFFS),
                "{:.3f}-{:.3f}".format(*values["recall@10_ci95"]),
                f"{values['any@10']:.3f}",
            )
            for method, values in methods.items()
        ],
    )


def goals_of(
    name: str, whole: dict[str, dict[str, Any]], second: dict[str, dict[str, Any]], chosen: str
) -> list[Goal]:
    """What is promised of a question set."""

    def at_10(values: dict[str, dict[str, Any]], method: str) -> float:
        return float(values[method]["recall@10"])

    ratio = at_10(whole, "bm25") / max(at_10(whole, rival) for rival in LEXICAL_RIVALS)
    goals = [Goal(f"{name}: bm25 @10 / best rival @10", ratio, ">= 1", ratio >= 1)]
    ahead = at_10(second, chosen) - max(at_10(second, part) for part in ("bm25", "dense"))
    goal = f"{name}: {chosen} @10 - better part @10"
    return [*goals, Goal(goal, ahead, f">= -{NOISE}", ahead >= -NOISE - 1e-9)]


def main() -> None:
    """Runs the benchmark."""
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, metavar="DIR", help="question sets and passages")
    default = IndexConfig()
    parser.add_argument("--lsa-dims", type=int, default=default.lsa_dims, metavar="D")
    parser.add_argument("--lsa-sketch", type=float, default=default.lsa_sketch, metavar="SHARE")
    args = parser.parse_args()
    settings = IndexConfig(lsa_dims=args.lsa_dims, lsa_sketch=args.lsa_sketch)
    corpus, sets = read_sets(args.data, quick=args.quick)
    passages = corpus.passages
    with tempfile.TemporaryDirectory() as temporary:
        run, seconds = polyprag_run(corpus, Path(temporary) / "lsa", settings)
        of_base = IndexConfig(encoder="base")
        base_run, base_seconds = polyprag_run(corpus, Path(temporary) / "base", of_base)
        index = Index.open(run)
        searchers: dict[str, Searcher] = {
            "bm25": Polyprag(index, "bm25"),
            "dense": Polyprag(index, "dense"),
            "dense, base": Polyprag(Index.open(base_run), "dense"),
            "hybrid, rrf": hybrid(run, RetrievalConfig(fusion="rrf")),
        }
        fused = {
            name_of(share): hybrid(run, RetrievalConfig(fusion="weighted", dense_weight=share))
            for share in DENSE_WEIGHTS
        }
        build_seconds = dict.fromkeys(searchers, seconds) | {"dense, base": base_seconds}
        rivals: dict[str, Callable[[], Searcher]] = {
            "bm25s": lambda: Bm25s(passages, backend="numpy"),
            "bm25s, numba": lambda: Bm25s(passages, backend="numba"),
            "bm25s, numba, all cores": lambda: Bm25s(passages, backend="numba", threads=-1),
            "rank-bm25": lambda: RankBm25(passages),
            "tf-idf": lambda: TfIdf(passages),
        }
        for name, make in rivals.items():
            searchers[name], build_seconds[name] = built(make)
        found: dict[str, Found] = {}
        for questions in sets:
            asked = questions.questions
            of_set: Found = {
                name: searcher.search(asked, k=DEPTH)
                for name, searcher in (searchers | fused).items()
            }
            found[questions.name] = of_set
        texts = list(dict.fromkeys(text for questions in sets for text in questions.questions))
        rounds = 1 if args.quick else ROUNDS
        rates = {
            k: queries_a_second(searchers, texts, k=k, rounds=rounds) for k in (TIMED_K, DEPTH)
        }

    first_half = mean_recall_at_10(found, sets)
    chosen = max((name_of(share) for share in DENSE_WEIGHTS), key=first_half.__getitem__)
    results: dict[str, Any] = {}
    goals: list[Goal] = []
    for questions in sets:
        of_set = found[questions.name]
        whole = {name: measured(of_set[name], questions.wanted) for name in searchers}
        half, wanted = on_half(of_set, questions, 1)
        second = {name: measured(ids, wanted) for name, ids in half.items()}
        show_set(f"{questions.name}: all {len(questions.questions)} questions", whole)
        reported = ("bm25", "dense", "hybrid, rrf", chosen)
        show_set(
            f"{questions.name}: the second half, {len(wanted)} questions",
            {name: second[name] for name in reported},
        )
        goals += goals_of(questions.name, whole, second, chosen)
        results[questions.name] = {
            "questions": len(questions.questions),
            "all": whole,
            "second_half": second,
        }
    show(
        "first half of the questions: recall@10, mean over the sets",
        ("method", "recall@10"),
        [(name, f"{first_half[name]:.4f}") for name in sorted(first_half)],
    )
    show(
        f"{len(passages)} passages, {len(texts)} questions",
        ("method", "build s", f"queries/s, {TIMED_K} hits", f"queries/s, {DEPTH} hits"),
        [(name, build_seconds[name], *(rates[k][name] for k in rates)) for name in searchers],
    )
    for k, of_k in rates.items():
        for rival in ("bm25s", "bm25s, numba", "bm25s, numba, all cores"):
            ratio = of_k["bm25"] / of_k[rival]
            goals.append(Goal(f"bm25 queries/s / {rival}, {k} hits", ratio, ">= 1", ratio >= 1))
    finish(
        {
            "passages": len(passages),
            "lsa": {"dims": settings.lsa_dims, "sketch": settings.lsa_sketch},
            "sets": results,
            "chosen": chosen,
            "first_half_recall@10": first_half,
            "build_s": build_seconds,
            "queries_per_s": rates,
        },
        goals,
        args.json,
    )


if __name__ == "__main__":
    main()
