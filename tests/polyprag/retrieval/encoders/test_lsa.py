from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from polyprag.errors import CorpusError, RunError
from polyprag.retrieval.analysis import Analyzer
from polyprag.retrieval.encoders.lsa import LsaEncoder

ANALYZER = Analyzer.of_language("english")


@pytest.fixture(scope="module")
def texts(titled_texts: list[tuple[str, str]]) -> list[str]:
    return [f"{title}\n{text}" for title, text in titled_texts]


def test_plain_lsa_equals_the_scikit_learn_pipeline(texts: list[str]) -> None:
    queries = ["Which composer was born in Oslo?", "Holm the sailor"]
    reference = make_pipeline(
        TfidfVectorizer(analyzer=ANALYZER.terms, sublinear_tf=True, dtype=np.float32),
        TruncatedSVD(8, random_state=0),
        Normalizer(),
    ).fit(texts)
    encoder = LsaEncoder.fit(texts, dims=8, sketch=0.0, analyzer=ANALYZER)
    np.testing.assert_allclose(encoder.encode(texts), reference.transform(texts), atol=1e-5)
    np.testing.assert_allclose(encoder.encode(queries), reference.transform(queries), atol=1e-5)


def test_loading_gives_the_same_vectors_and_needs_no_pickle(
    tmp_path: Path, texts: list[str]
) -> None:
    encoder = LsaEncoder.fit(texts, dims=8, sketch=0.5, analyzer=ANALYZER)
    again = LsaEncoder.load(tmp_path, encoder.save(tmp_path))
    np.testing.assert_array_equal(again.encode(texts), encoder.encode(texts))
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}


def test_the_sketch_sees_what_the_singular_vectors_leave_out(texts: list[str]) -> None:
    encoder = LsaEncoder.fit(texts, dims=12, sketch=0.5, analyzer=ANALYZER)
    projection_VD = encoder._projection_VD
    assert projection_VD.shape[1] == 12
    np.testing.assert_allclose(projection_VD[:, :6].T @ projection_VD[:, 6:], 0, atol=1e-4)


def test_sketched_vectors_keep_the_cosines_of_the_term_weights(texts: list[str]) -> None:
    weights = TfidfVectorizer(analyzer=ANALYZER.terms, sublinear_tf=True).fit_transform(texts)
    vectors = LsaEncoder.fit(texts, dims=1024, sketch=0.98, analyzer=ANALYZER).encode(texts)
    np.testing.assert_allclose(vectors @ vectors.T, (weights @ weights.T).toarray(), atol=0.15)


def test_vectors_are_unit_length_or_zero_when_no_word_is_known(texts: list[str]) -> None:
    encoder = LsaEncoder.fit(texts, dims=8, sketch=0.5, analyzer=ANALYZER)
    norms = np.linalg.norm(encoder.encode([texts[0], "", "zzz", "the of"]), axis=1)
    np.testing.assert_allclose(norms, [1, 0, 0, 0], atol=1e-5)


def test_fewer_texts_than_dimensions_give_fewer_dimensions() -> None:
    encoder = LsaEncoder.fit(["apple tree", "pear tree"], dims=64, sketch=0.0, analyzer=ANALYZER)
    assert encoder.dims == 2
    assert encoder.encode(["apple"]).shape == (1, 2)


@pytest.mark.parametrize("texts", [["the", "of"], ["apple", "apple"]])
def test_a_corpus_without_words_is_a_corpus_error(texts: list[str]) -> None:
    with pytest.raises(CorpusError, match=r"index\.language"):
        LsaEncoder.fit(texts, dims=8, sketch=0.5, analyzer=ANALYZER)


def test_files_that_do_not_fit_together_are_refused(tmp_path: Path, texts: list[str]) -> None:
    encoder = LsaEncoder.fit(texts, dims=8, sketch=0.5, analyzer=ANALYZER)
    settings = encoder.save(tmp_path)
    (tmp_path / "vocabulary.json").write_text('["apple"]')
    with pytest.raises(RunError, match="polyprag index RUN"):
        LsaEncoder.load(tmp_path, settings)
    (tmp_path / "lsa.safetensors").write_bytes(b"no")
    with pytest.raises(RunError, match="polyprag index RUN"):
        LsaEncoder.load(tmp_path, settings)
