"""The summed loss against transformers' own, its splitting, and the teacher's part of it."""

from contextlib import AbstractContextManager

import pytest
import torch
from torch.distributions import Categorical, kl_divergence
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers.loss.loss_utils import ForCausalLMLoss

from polyprag.config import ModelConfig
from polyprag.method import loss as losses
from polyprag.method.base_model import load_base
from polyprag.method.loss import (
    causal_loss_sum,
    learnt_positions,
    logits_at,
    training_loss_sum,
)
from polyprag.method.teacher.divergence import distill_loss_sum
from polyprag.method.teacher.targets import TargetBatch, likeliest


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 7, 13, generator=generator)
    labels = torch.randint(0, 13, (4, 7), generator=generator)
    labels[0, 3:] = -100
    labels[1, :4] = -100
    labels[3] = -100
    return logits, labels


def test_sum_over_count_equals_transformers_mean() -> None:
    logits, labels = batch()
    total, count = causal_loss_sum(logits, labels)
    torch.testing.assert_close(total / count, ForCausalLMLoss(logits, labels, vocab_size=13))
    assert count == int((labels[:, 1:] != -100).sum())


def test_parts_of_a_batch_add_up_to_the_whole() -> None:
    logits, labels = batch()
    whole, count = causal_loss_sum(logits, labels)
    parts = [causal_loss_sum(logits[i : i + 1], labels[i : i + 1]) for i in range(4)]
    torch.testing.assert_close(sum(part for part, _ in parts), whole)
    assert sum(number for _, number in parts) == count


def test_a_batch_in_which_no_token_counts_has_a_zero_gradient() -> None:
    logits, labels = batch()
    logits.requires_grad_()
    total, count = causal_loss_sum(logits, torch.full_like(labels, -100))
    total.backward()
    assert (total.item(), count) == (0.0, 0)
    assert logits.grad is not None and not logits.grad.any()


def test_bf16_logits_are_summed_in_fp32() -> None:
    logits, labels = batch()
    total, _ = causal_loss_sum(logits.bfloat16(), labels)
    assert total.dtype == torch.float32
    exact, _ = causal_loss_sum(logits.bfloat16().float(), labels)
    assert total == exact


VOCABULARY = 40
ROWS, PLACES = torch.tensor([0, 0, 2, 3]), torch.tensor([1, 4, 0, 5])


def teacher_and_student(*, spread: float = 2.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of the teacher at four tokens, and of the student everywhere."""
    generator = torch.Generator().manual_seed(1)
    teacher = spread * torch.randn(4, VOCABULARY, generator=generator)
    return teacher, torch.randn(4, 7, VOCABULARY, generator=generator).requires_grad_()


def kept_of(teacher: torch.Tensor, *, top_k: int) -> TargetBatch:
    kept = likeliest(teacher, top_k=top_k)
    ids, log_probs = torch.from_numpy(kept.ids), torch.from_numpy(kept.log_probs)
    return TargetBatch(ROWS, PLACES, ids.long(), log_probs.float())


def dense_divergence(teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
    """PyTorch's own, of whole distributions and in float64."""
    of_teacher = Categorical(logits=teacher.double())
    of_student = Categorical(logits=student[ROWS, PLACES].double())
    return kl_divergence(of_teacher, of_student)


def test_with_every_token_kept_it_is_the_dense_divergence_and_so_is_its_gradient() -> None:
    teacher, student = teacher_and_student()
    dense = dense_divergence(teacher, student).sum()
    (expected,) = torch.autograd.grad(dense, student)
    loss = distill_loss_sum(student, kept_of(teacher, top_k=1000))  # one is left for the tail
    (found,) = torch.autograd.grad(loss, student)
    assert loss.item() == pytest.approx(dense.item(), abs=2e-3)  # what float16 keeps
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)
    assert found[1].abs().max() == 0  # no target there


@pytest.mark.parametrize("top_k", [1, 4, 16])
def test_it_lacks_of_the_dense_divergence_what_is_inside_the_tail(top_k: int) -> None:
    teacher, student = teacher_and_student()
    dense = dense_divergence(teacher, student).sum().item()
    p = teacher.double().softmax(-1)
    q = student[ROWS, PLACES].detach().double().softmax(-1)
    inside = 0.0
    for one_p, one_q in zip(p, q, strict=True):
        tail = one_p.argsort(descending=True)[top_k:]
        of_p, of_q = Categorical(probs=one_p[tail]), Categorical(probs=one_q[tail])
        inside += float(one_p[tail].sum() * kl_divergence(of_p, of_q))
    loss = distill_loss_sum(student, kept_of(teacher, top_k=top_k)).item()
    assert loss == pytest.approx(dense - inside, abs=5e-3)
    assert 0 < loss < dense


def test_a_student_that_says_what_the_teacher_says_has_no_loss_and_no_gradient() -> None:
    teacher, _ = teacher_and_student()
    student = torch.zeros(4, 7, VOCABULARY)
    student[ROWS, PLACES] = teacher
    student.requires_grad_()
    loss = distill_loss_sum(student, kept_of(teacher, top_k=5))
    loss.backward()
    assert abs(loss.item()) < 1e-3
    assert student.grad is not None and student.grad.abs().max() < 1e-3


def test_a_teacher_that_is_certain_gives_finite_numbers() -> None:
    teacher, student = teacher_and_student(spread=1e6)
    targets = kept_of(teacher, top_k=3)
    assert torch.isinf(targets.log_probs).any()  # float16 knows no smaller probability than 0
    loss = distill_loss_sum(student, targets)
    loss.backward()
    likely = student[ROWS, PLACES].log_softmax(-1).gather(-1, teacher.argmax(-1, keepdim=True))
    assert loss.item() == pytest.approx(-likely.sum().item(), rel=1e-3)
    assert student.grad is not None and torch.isfinite(student.grad).all()


def test_the_parts_of_a_loss_are_summed_with_the_teachers_weight() -> None:
    logits, labels = batch()
    targets = kept_of(torch.randn(4, 13), top_k=4)
    whole = training_loss_sum(logits, labels, targets, distill_weight=0.25)
    text, _ = causal_loss_sum(logits, labels)
    torch.testing.assert_close(whole, text + 0.25 * distill_loss_sum(logits, targets))
    torch.testing.assert_close(
        training_loss_sum(logits, labels, None, distill_weight=0.25), text, atol=0, rtol=0
    )


def test_positions_where_something_is_learnt() -> None:
    _, labels = batch()
    labels[2] = -100
    assert learnt_positions(labels, None).tolist() == [0, 1, 3, 4, 5]  # of what comes next
    nothing = torch.full_like(labels, -100)
    assert learnt_positions(nothing, None).tolist() == [0]
    assert learnt_positions(nothing[:, :1], None).tolist() == [0]
    targets = kept_of(torch.randn(4, 13), top_k=4)
    assert learnt_positions(nothing, targets).tolist() == sorted(set(PLACES.tolist()))


def test_the_loss_of_learnt_positions_is_that_of_all() -> None:
    logits, labels = batch()
    targets = kept_of(torch.randn(4, 13), top_k=4)
    for labels_BT in (labels, torch.full_like(labels, -100)):
        for taught in (None, targets):
            positions = learnt_positions(labels_BT, taught)
            assert len(positions) < logits.shape[1]
            some = training_loss_sum(
                logits[:, positions], labels_BT, taught, distill_weight=0.5, positions=positions
            )
            every = training_loss_sum(logits, labels_BT, taught, distill_weight=0.5)
            torch.testing.assert_close(some, every)


@pytest.mark.parametrize("keeps", [True, False])
def test_logits_of_some_positions(monkeypatch: pytest.MonkeyPatch, keeps: bool) -> None:
    model, _ = load_base(ModelConfig(path="polyprag:tiny-base", dtype="fp32"), device="cpu")
    assert losses.keeps_logits(type(model).forward)
    monkeypatch.setattr("polyprag.method.loss.keeps_logits", lambda forward: keeps)
    ids_BT = torch.randint(0, 999, (2, 9), generator=torch.Generator().manual_seed(0))
    mask_BT, positions = torch.ones_like(ids_BT), torch.tensor([2, 3, 7])
    computed = []
    model.get_output_embeddings().register_forward_hook(lambda *of: computed.append(of[2].shape[1]))
    some = logits_at(model, ids_BT, mask_BT, positions)
    every = logits_at(model, ids_BT, mask_BT)
    assert computed == [3 if keeps else 9, 9]
    torch.testing.assert_close(some, every[:, positions])


@pytest.mark.parametrize(
    ("dtype", "length", "is_plain"),
    [("bf16", 12, True), ("bf16", 200, False), ("fp32", 12, False)],
)
def test_short_sequences_in_bf16_are_attended_to_by_plain_products(
    monkeypatch: pytest.MonkeyPatch, dtype: str, length: int, is_plain: bool
) -> None:
    model, _ = load_base(ModelConfig(path="polyprag:tiny-base", dtype=dtype), device="cpu")
    ids_BT = torch.randint(0, 999, (2, length), generator=torch.Generator().manual_seed(0))
    mask_BT = torch.ones_like(ids_BT)
    mask_BT[1, length // 2 :] = 0
    used: list[SDPBackend] = []

    def recorded(backend: SDPBackend) -> AbstractContextManager[None]:
        used.append(backend)
        return sdpa_kernel(backend)

    monkeypatch.setattr("polyprag.method.loss.sdpa_kernel", recorded)
    found = logits_at(model, ids_BT, mask_BT)
    assert used == ([SDPBackend.MATH] if is_plain else [])
    expected = model(input_ids=ids_BT, attention_mask=mask_BT).logits
    is_there = mask_BT.bool()
    difference = (found - expected)[is_there].abs().float().mean()
    assert difference <= (0.0 if not is_plain else 0.05)  # bf16 has 8 bits
