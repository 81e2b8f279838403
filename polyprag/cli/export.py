"""`polyprag export`: passages' mixtures as adapters and models that others can load."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

from polyprag.cli.arguments import (
    config_option,
    json_option,
    only_overrides,
    overrides_argument,
    run_argument,
    settings_of,
    show_result,
)
from polyprag.errors import RequestError
from sharding.counted import counted

if TYPE_CHECKING:
    from polyprag.answering.answerer import Answerer
    from polyprag.answering.preparation import Prepared
    from polyprag.answering.request import Request
    from polyprag.export.card import Form
    from polyprag.export.lora import Lora


@click.command("export")
@run_argument
@overrides_argument
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Directory to make.")
@click.option(
    "--passages",
    "keys",
    multiple=True,
    metavar="KEY",
    help="A passage by its key; give the option once for each. They count alike.",
)
@click.option(
    "--mixture",
    "weighted",
    multiple=True,
    nargs=2,
    type=(str, float),
    metavar="KEY WEIGHT",
    help="A passage, and what its gates count; give the option once for each.",
)
@click.option(
    "--question",
    metavar="TEXT",
    help="The passages that a search finds for it, as `polyprag ask` mixes them.",
)
@click.option(
    "--all",
    "every",
    is_flag=True,
    help="An adapter for each passage, in OUT/ID: PRAG's way, for comparisons and small corpora.",
)
@click.option(
    "--rank",
    type=click.IntRange(min=1),
    help="A smaller rank than that of all experts together, which is exact; what is left out is "
    "told.",
)
@click.option("--gguf", is_flag=True, help="A LoRA for llama.cpp, adapter.gguf, in PEFT's place.")
@click.option(
    "--experts",
    is_flag=True,
    help="Each expert as a LoRA for llama.cpp, whose scales in a request are a passage's gates; "
    "needs router.granularity=model.",
)
@click.option("--merge", is_flag=True, help="The whole model with the mixture in its weights.")
@click.option("--overwrite", is_flag=True, help="Replace what is at OUT.")
@config_option
@json_option
def command(
    run: str,
    arguments: tuple[str, ...],
    out: Path,
    keys: tuple[str, ...],
    weighted: tuple[tuple[str, float], ...],
    question: str | None,
    every: bool,
    rank: int | None,
    gguf: bool,
    experts: bool,
    merge: bool,
    overwrite: bool,
    configs: tuple[str, ...],
    as_json: bool,
) -> None:
    """Write passages of RUN as LoRAs or a whole model.

    A LoRA is for PEFT, or with --gguf for llama.cpp. It adds to the base model
    what `poly` adds when it answers with these passages; its README.md says what
    is in it and how it is asked.

    \b
    Examples:
      polyprag export runs/wiki --passages ada-lovelace --out adapters/ada
      polyprag export runs/wiki --question "Who was Ada?" --out ada --rank 8
      polyprag export runs/wiki --mixture ada 0.7 --mixture babbage 0.3 --out both
      polyprag export runs/wiki --passages ada-lovelace --merge --out models/ada
      polyprag export runs/handbook --all --out adapters/handbook
      polyprag export runs/wiki --passages ada-lovelace --gguf --out ada-gguf
      polyprag export runs/wiki --experts --out experts
    """
    if sum(map(bool, (keys, weighted, question, every, experts))) != 1:
        raise click.UsageError(
            "name passages by one of --passages, --mixture, --question, --all; or --experts"
        )
    if (every or experts) and merge:
        raise click.UsageError("--all and --experts write adapters; --merge is for one mixture")
    if gguf and merge:
        raise click.UsageError("--gguf writes an adapter; llama.cpp converts a merged model itself")
    if experts and rank:
        raise click.UsageError(
            "--rank is for mixtures; an expert has the rank that it was made with"
        )
    config = settings_of(run, configs, only_overrides(arguments))
    from polyprag.answering.answerer import Answerer
    from polyprag.answering.request import Request
    from polyprag.export.directory import new_directory, write_merged

    loaded = Answerer.open(run, config, modes=["poly"])
    if experts:
        _write_experts(loaded, out, overwrite=overwrite, as_json=as_json)
        return
    form: Form = "merged" if merge else "gguf" if gguf else "peft"
    if every:
        _write_all(loaded, run, out, rank=rank, form=form, overwrite=overwrite, as_json=as_json)
        return
    # What is asked for matters only where passages are searched for.
    request = Request(
        question=question or "?",
        passages=keys or None,
        mixture=dict(weighted) if weighted else None,
    )
    prepared = _mixture(loaded, run, request)
    lora, card = _lora_and_card(loaded, prepared, rank=rank, form=form)
    with new_directory(out, overwrite=overwrite) as made:
        if merge:
            write_merged(
                made, lora, loaded.model, loaded.tokenizer, loaded.experts("poly"), card=card
            )
        else:
            _write_lora(made, loaded, lora, card, form=form)
    fields = {
        "out": str(out),
        "passages": [passage.key for passage in prepared.hits.passages] if prepared.hits else [],
        "weights": [] if prepared.weights is None else prepared.weights.tolist(),
        "rank": lora.rank,
        "error": lora.error,
        "merged": merge,
    }
    left_out = f", {lora.error:.2%} of the mixture left out" if lora.error else ", exact"
    what = "model" if merge else f"adapter of {lora.num_bytes / 1e6:.1f} MB"
    text = (
        f"{out}: {what} with {counted(len(fields['passages']), 'passage')}, rank {lora.rank}"
        f"{left_out}\nnext: see {out / 'README.md'}"
    )
    show_result(as_json, fields, text)


def _mixture(loaded: "Answerer", run: str, request: "Request") -> "Prepared":
    """Returns a request with its passages and gates.

    Raises:
        RequestError: there is no such passage, or the search finds nothing.
    """
    from polyprag.answering.preparation import Preparation

    (prepared,) = Preparation(loaded, run_dir=run).of([request])
    if prepared.hits is None or not len(prepared.hits.ids):
        raise RequestError(f"no passage was found for {prepared.text!r}: nothing was written")
    return prepared


def _lora_and_card(
    loaded: "Answerer", prepared: "Prepared", *, rank: int | None, form: "Form"
) -> "tuple[Lora, str]":
    from polyprag.export.card import model_card
    from polyprag.export.lora import lora_of_mixture

    assert prepared.hits is not None and prepared.gates is not None  # of poly
    assert prepared.weights is not None
    lora = lora_of_mixture(loaded.experts("poly"), prepared.gates, rank=rank)
    weights = prepared.weights.tolist()
    card = model_card(
        lora,
        prepared.hits.passages,
        weights,
        base=_base(loaded),
        prompts=loaded.prompts,
        form=form,
    )
    return lora, card


def _write_lora(
    directory: Path, loaded: "Answerer", lora: "Lora", card: str, *, form: "Form"
) -> None:
    from polyprag.export.directory import write_adapter, write_gguf

    if form == "gguf":
        write_gguf(directory, lora, model=loaded.model, card=card)
    else:
        write_adapter(directory, lora, base=_base(loaded), card=card)


def _base(loaded: "Answerer") -> str:
    """Returns where others find the base model: a path, or a hub's name."""
    from polyprag.pretrained.where import located

    return located(loaded.config.model.path)


def _write_all(
    loaded: "Answerer",
    run: str,
    out: Path,
    *,
    rank: int | None,
    form: "Form",
    overwrite: bool,
    as_json: bool,
) -> None:
    """Writes an adapter for each passage that is left."""
    from polyprag.answering.request import Request
    from polyprag.export.directory import new_directory
    from polyprag.progress import progress

    index = loaded.indexed()
    ids = [i for i in range(index.num_passages) if i not in index.removed]
    num_bytes = 0
    with (
        new_directory(out, overwrite=overwrite) as made,
        progress(len(ids), "exporting", unit="passages") as advance,
    ):
        for passage_id in ids:
            request = Request(question="?", passages=(passage_id,))
            mixture = _mixture(loaded, run, request)
            lora, card = _lora_and_card(loaded, mixture, rank=rank, form=form)
            directory = made / str(passage_id)
            directory.mkdir()
            _write_lora(directory, loaded, lora, card, form=form)
            num_bytes += lora.num_bytes
            if len(ids) * lora.num_bytes > shutil.disk_usage(made).free + num_bytes:
                raise RequestError(
                    f"{len(ids):,} adapters of {lora.num_bytes:,} bytes don't fit on {out}'s disk; "
                    "take a smaller --rank, or fewer passages with --passages"
                )
            advance(1)
    fields = {"out": str(out), "passages": len(ids), "bytes": num_bytes}
    text = f"{out}: {counted(len(ids), 'adapter')}, {num_bytes / 1e6:,.1f} MB, by passage id"
    show_result(as_json, fields, text)


def _write_experts(loaded: "Answerer", out: Path, *, overwrite: bool, as_json: bool) -> None:
    """Writes each expert as an adapter for llama.cpp."""
    from polyprag.export.card import experts_card
    from polyprag.export.directory import new_directory, write_experts

    pool = loaded.experts("poly")
    with new_directory(out, overwrite=overwrite) as made:
        write_experts(
            made,
            pool,
            model=loaded.model,
            card=experts_card(pool.num_experts, base=_base(loaded)),
        )
        num_bytes = sum(file.stat().st_size for file in made.glob("*.gguf"))
    fields = {"out": str(out), "experts": pool.num_experts, "bytes": num_bytes}
    text = (
        f"{out}: {counted(pool.num_experts, 'expert')}, {num_bytes / 1e6:,.1f} MB\n"
        f"next: see {out / 'README.md'}"
    )
    show_result(as_json, fields, text)
