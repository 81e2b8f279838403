"""The model card of an export: what it is, and how it is asked."""

from collections.abc import Sequence
from typing import Literal

from polyprag.export.lora import Lora
from polyprag.method.prompts import PromptTokenizer, one_line, qa_prompt
from polyprag.version import __version__
from sharding.corpus.passages import Passage

Form = Literal["peft", "gguf", "merged"]

_SHOWN = 20  # passages that are named
_KINDS: dict[Form, tuple[str, str]] = {  # what it is, and the library that reads it
    "peft": ("a PEFT LoRA", "peft"),
    "gguf": ("a LoRA for llama.cpp", "llama.cpp"),
    "merged": ("a causal LM", "transformers"),
}


def model_card(
    lora: Lora,
    passages: Sequence[Passage],
    weights: Sequence[float],
    *,
    base: str,
    prompts: PromptTokenizer,
    form: Form,
) -> str:
    """Returns README.md of an export.

    Args:
        lora: the mixture.
        passages: whose rows it is made of.
        weights: what each passage's gates count in it.
        base: path or hub name of the base model.
        prompts: how it is asked.
        form: what is written.
    """
    kind, library = _KINDS[form]
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
    lines += ["", "## Asking it", "", *_usage(base, form), ""]
    layout = "as plain text"
    if prompts.chat:
        layout = f"as a user's message, after the system message {prompts.instruction!r}"
    if prompts.skipped_ids:
        lines += [
            f"In polyprag its experts leave alone the first {len(prompts.skipped_ids)} tokens of "
            "a prompt, which are the same in all prompts; here they act on these, too, so answers "
            "may differ.",
            "",
        ]
    lines += [
        f"It was trained on questions laid out {layout}, and answers best so:",
        "",
        *(f"    {line}" for line in qa_prompt("QUESTION").splitlines()),
        "",
        "It knows what these passages say, with mistakes, and is no better than its base at "
        "anything else. The licence is that of the base model and of the passages' texts.",
    ]
    return "\n".join(lines) + "\n"


def experts_card(num: int, *, base: str) -> str:
    """Returns README.md of a pool whose experts are adapters for llama.cpp."""
    lines = [
        "---",
        "library_name: llama.cpp",
        f"base_model: {base}",
        "tags: [polyprag, parametric-rag]",
        "---",
        "",
        f"# {num} experts beside {base}",
        "",
        f"These are the experts of a pool made by polyprag {__version__} (Poly-PRAG, arXiv "
        "2511.17044), a LoRA each. Passages are mixtures of them: each request to llama.cpp's "
        "server brings the scales of its own, which are the passage's gates.",
        "",
        "    llama-server -m BASE.gguf --lora-init-without-apply --lora expert-000.gguf ...",
        "    curl localhost:8080/completion -d '{",
        '      "prompt": "Question: QUESTION\\nAnswer:",',
        '      "lora": [{"id": 0, "scale": 0.12}, {"id": 1, "scale": -0.4}]',
        "    }'",
        "",
        "All files are loaded with `--lora`, in their order; an id is the number in a file's "
        "name, and an expert that a request doesn't name counts 0. The run gives a question's "
        'gates, by `POST /v1/retrieve` with `"gates": true` or from Python: '
        "`engine.ask(QUESTION).gates[0]`.",
    ]
    return "\n".join(lines) + "\n"


def _usage(base: str, form: Form) -> list[str]:
    if form == "gguf":
        return ["    llama-server -m BASE.gguf --lora adapter.gguf"]
    if form == "merged":
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
