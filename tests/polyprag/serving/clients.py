"""Asks a server with LangChain's and LlamaIndex's classes and lm-eval's, as their users do.

Run by test_clients.py in an environment of its own: python clients.py CLIENT URL TOKENIZER.
"""

import asyncio
import json
import sys
from typing import Any

ASKED = "Where was Anna Smith born?"


def langchain(url: str, _: str) -> dict[str, Any]:
    from langchain_core.messages import HumanMessage
    from langchain_openai import ChatOpenAI, OpenAIEmbeddings

    chat = ChatOpenAI(model="wiki:poly", base_url=f"{url}/v1", api_key="none", max_retries=0)
    asked = [HumanMessage(ASKED)]
    whole = chat.invoke(asked)

    async def later() -> list[str]:
        both = await chat.abatch([asked, asked])
        pieces = [piece.content async for piece in chat.astream(asked)]
        return [*(each.content for each in both), "".join(pieces).strip()]

    vectors = OpenAIEmbeddings(
        model="wiki", base_url=f"{url}/v1", api_key="none", check_embedding_ctx_length=False
    )
    return {
        "said": [whole.content, *asyncio.run(later())],
        "tokens": whole.usage_metadata["output_tokens"],
        "vectors": vectors.embed_documents(["Anna Smith", "Oslo"]),
    }


def llamaindex(url: str, _: str) -> dict[str, Any]:
    from llama_index.core.llms import ChatMessage
    from llama_index.llms.openai_like import OpenAILike

    given = {"model": "wiki:poly", "api_base": f"{url}/v1", "api_key": "none", "max_retries": 0}
    given["temperature"] = 0  # its own default is 0.1
    chat = OpenAILike(**given, is_chat_model=True)
    asked = [ChatMessage(role="user", content=ASKED)]
    pieces = [piece.delta or "" for piece in chat.stream_chat(asked)]

    async def later() -> str:
        return str((await chat.achat(asked)).message.content)

    said = [chat.chat(asked).message.content, "".join(pieces).strip(), asyncio.run(later())]
    plain = OpenAILike(**{**given, "model": "wiki"}, is_chat_model=False, max_tokens=5)
    return {"said": said, "continued": plain.complete("Anna Smith was").text}


def lm_eval(url: str, tokenizer: str) -> dict[str, Any]:
    from lm_eval.api.instance import Instance
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    model = LocalCompletionsAPI(
        model="wiki",
        base_url=f"{url}/v1/completions",
        tokenizer_backend="huggingface",
        tokenizer=tokenizer,
        num_concurrent=1,
        batch_size=2,
        max_length=256,
    )

    def instances(kind: str, given: list[tuple[Any, ...]]) -> list[Any]:
        return [Instance(kind, {}, each, at) for at, each in enumerate(given)]

    pairs = [("Anna Smith was born in", " Oslo"), ("Boris Smith", " was born"), ("A", " b c")]
    until = {"until": ["\n"], "max_gen_toks": 5, "do_sample": False}
    return {
        "scores": model.loglikelihood(instances("loglikelihood", pairs)),
        "pairs": pairs,
        "said": model.generate_until(instances("generate_until", [("Anna Smith was", until)])),
    }


if __name__ == "__main__":
    _, client, *where = sys.argv
    asks = {"langchain": langchain, "llamaindex": llamaindex, "lm_eval": lm_eval}
    print("FOUND", json.dumps(asks[client](*where)))
