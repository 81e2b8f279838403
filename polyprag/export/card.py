"""The model card of an export: what it is, and how it is asked."""

from collections.abc import Sequence

from polyprag import __version__
from polyprag.export.lora import Lora
from polyprag.method.prompts import PromptTokenizer, one_line, qa_prompt
from sharding.corpus.passages import Passage

_SHOWN = 20  # passages that are named


def model_card(
    lora: Lora,
    passages: Sequence[Passage],
    weights: Sequence[float],
    *,
    base: str,
    prompts: PromptTokenizer,
    is_merged: bool,
) -> str:
    """Returns README.md of an export.

    Args:
        lora: the mixture.
        passages: whose rows it is made of.
        weights: what each passage's gates count in it.
        base: path or hub name of the base model.
        prompts: how it is asked.
        is_merged: whether the model has it in its weights.
    """
    kind = "a causal LM" if is_merged else "a PEFT LoRA"
    library = "transformers" if is_merged else "peft"
    exact = (
        "exactly the passages' mixture of experts"
        if not lora.error
        else f"the passages' mixture of experts but for {lora.error:.2%} of it (Frobenius norm)"
    )
    lines = [
        "---",
        f"library_name: {library}",
        f"base_model: {base}",
        "tags: [polyprag, parametric-rag]",
        "---",
        "",
        f"# {len(passages)} passage{'' if len(passages) == 1 else 's'} in the weights of {base}",
        "",
        f"This is {kind} made by polyprag {__version__} (Poly-PRAG, arXiv 2511.17044): at rank "
        f"{lora.rank} it is {exact}.",
        "",
        "| weight | key | title |",
        "| --- | --- | --- |",
        *(
            f"| {weight:.3g} | {_cell(passage.key)} | {_cell(passage.title)} |"
            for passage, weight in zip(passages[:_SHOWN], weights[:_SHOWN], strict=True)
        ),
    ]
    if len(passages) > _SHOWN:
        lines.append(f"| | and {len(passages) - _SHOWN:,} more | |")
    lines += ["", "## Asking it", "", *_usage(base, is_merged=is_merged), ""]
    layout = "as plain text"
    if prompts.chat:
        layout = f"as a user's message, after the system message {prompts.instruction!r}"
    lines += [
        f"It was trained on questions laid out {layout}, and answers best so:",
        "",
        *(f"    {line}" for line in qa_prompt("QUESTION").splitlines()),
        "",
        "It knows what these passages say, with mistakes, and is no better than its base at "
        "anything else. The licence is that of the base model and of the passages' texts.",
    ]
    return "\n".join(lines) + "\n"


def _usage(base: str, *, is_merged: bool) -> list[str]:
    if is_merged:
        return [
            "    from transformers import AutoModelForCausalLM, AutoTokenizer",
            "    model = AutoModelForCausalLM.from_pretrained('THIS DIRECTORY')",
            "    tokenizer = AutoTokenizer.from_pretrained('THIS DIRECTORY')",
        ]
    return [
        "    from peft import PeftModel",
        "    from transformers import AutoModelForCausalLM, AutoTokenizer",
        f"    base = AutoModelForCausalLM.from_pretrained({base!r})",
        "    model = PeftModel.from_pretrained(base, 'THIS DIRECTORY')",
        f"    tokenizer = AutoTokenizer.from_pretrained({base!r})",
    ]


def _cell(text: str) -> str:
    return one_line(text).replace("|", "\\|") or "(none)"
