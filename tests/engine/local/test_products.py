"""Products with frozen bfloat16 weights on a CPU: the numbers, however they are made, and that nothing is copied."""

import pytest
import torch

from geospot.engine.local import products
from geospot.engine.local.network import Network
from geospot.engine.local.products import Ways

WAYS = [Ways(few=a, many=a, back=b) for a in (False, True) for b in (False, True)]


def tensors(rows: int) -> tuple[torch.Tensor, list[torch.Tensor], torch.Tensor]:
    generator = torch.Generator().manual_seed(rows)
    x = torch.randn(rows, 24, generator=generator).bfloat16()
    weights = [torch.randn(n, 24, generator=generator).bfloat16() for n in (40, 7)]
    return x, weights, torch.randn(47, generator=generator).bfloat16()


@pytest.mark.parametrize("ways", WAYS)
@pytest.mark.parametrize("rows", [1, 9])
def test_every_way_gives_the_float32_product_to_rounding(ways, rows, monkeypatch):
    monkeypatch.setattr(products, "_ways", ways)
    monkeypatch.setattr(products, "BLOCK", 24 * 16)  # of 16 rows: the last ones are cut
    x, weights, bias = tensors(rows)
    both = torch.cat(weights).float()
    want = x.float() @ both.T + bias.float()
    assert (products.product(x, weights, bias).float() - want).norm() <= 0.01 * want.norm()
    exact = products.product(x, weights, bias, torch.float32)  # what the vocabulary's scores are
    assert exact.dtype == torch.float32
    assert (exact - want).norm() <= 1e-5 * want.norm()
    dy = products.product(x, weights)
    back = products.product_back(dy, weights)
    assert (back - dy.float() @ both).norm() <= 0.01 * back.norm()


def test_the_gradient_reaches_what_goes_in():
    x, weights, bias = tensors(9)
    x.requires_grad_()
    products.frozen(x.view(3, 3, 24), weights, bias).float().square().sum().backward()
    wide = x.detach().float().requires_grad_()
    (wide @ torch.cat(weights).float().T + bias.float()).square().sum().backward()
    assert (x.grad.float() - wide.grad).norm() <= 0.02 * wide.grad.norm()


def test_only_a_large_model_is_worth_a_measurement(monkeypatch):
    monkeypatch.setattr(products, "_ways", Ways())
    monkeypatch.setattr(products, "measure", lambda: Ways(few=True, many=False, back=False))
    products.settle(products.LARGE - 1)
    assert products._ways == Ways()
    products.settle(products.LARGE)
    assert products._ways == Ways(few=True, many=False, back=False)


def test_the_machine_is_measured_for_products_that_it_can_make():
    assert isinstance(products.measure(64), Ways)


def copies(network: Network) -> int:
    """Bytes of the decoder's matrices for sampling that are no parameters of the model."""
    own = {p.untyped_storage().data_ptr() for p in network.model.parameters()}
    weights = network.sampling_weights(0)
    linear = [layer for w in weights for layer in (w.qkv, w.o, w.gate_up, w.down)]
    held = [t for layer in linear for t in layer.tensors() if t.ndim == 2]
    return sum(t.untyped_storage().nbytes() for t in held if t.untyped_storage().data_ptr() not in own)


@pytest.mark.parametrize("rank", [0, 4])
def test_bfloat16_weights_are_used_where_they_are(make_service, tiny_folder, rank):
    """Also beside an adapter: no merged copy, and none to have q, k, v side by side."""
    service = make_service(dtype="bfloat16")
    if rank:
        service.create_lora_training_client(tiny_folder, rank=rank, seed=0).result()
    else:
        service.create_sampling_client(base_model=tiny_folder).result()
    [network] = service._networks.values()
    before = [p.data_ptr() for p in network.model.parameters()]
    assert service.scheduler.submit(lambda: copies(network)).result() == 0
    assert [p.data_ptr() for p in network.model.parameters()] == before


@pytest.mark.parametrize("large", [False, True])
def test_a_large_model_without_an_adapter_needs_no_merged_copy(make_service, tiny_folder, monkeypatch, large):
    if large:
        monkeypatch.setattr(products, "LARGE", 1)
    service = make_service()
    sampler = service.create_sampling_client(base_model=tiny_folder).result()
    [network] = service._networks.values()
    assert network.decoder is not None
    assert (service.scheduler.submit(lambda: copies(network)).result() == 0) is large
    assert len(sampler.compute_logprobs(_prompt()).result()) == 3


def _prompt():
    from tinker import types

    return types.ModelInput.from_ints([300, 301, 302])
