"""The networks: what the reports say they are, and what their options change."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import mnist_lab as lab
from mnist_lab import models

REPORT_A = [
    nn.Conv2d(1, 10, 5), nn.MaxPool2d(2), nn.ReLU(),
    nn.Conv2d(10, 20, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(),
    nn.Linear(320, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10),
]  # fmt: skip
REPORT_B = [
    nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
    nn.Linear(3136, 128), nn.ReLU(), nn.Linear(128, 10),
]  # fmt: skip
REPORT_B_CODE = [
    nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
    nn.Linear(1568, 64), nn.ReLU(), nn.Linear(64, 10), nn.ReLU(), nn.Linear(10, 10),
    nn.Softmax(dim=1),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "layers", "parameters"),
    [
        ("report_a", REPORT_A, 55_274),
        ("report_b", REPORT_B, 421_642),
        ("report_b_code", REPORT_B_CODE, 106_072),
    ],
    ids=["A", "B", "B's code"],
)
def test_a_report_network_has_the_layers_and_parameters_of_its_report(name, layers, parameters):
    model = models.NETWORKS[name]()
    assert [repr(layer) for layer in model] == [repr(layer) for layer in layers]
    assert lab.parameter_count(model) == parameters
    model.linear1.requires_grad_(False)  # what is frozen does not count
    frozen = sum(p.numel() for p in model.linear1.parameters())
    assert lab.parameter_count(model) == parameters - frozen


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 4), st.integers(1, 5))
def test_output_size_is_that_of_a_real_convolution(width, kernel_size, padding, stride):
    convolution = nn.Conv2d(1, 1, kernel_size, stride, padding)
    if kernel_size > width + 2 * padding:
        with pytest.raises(ValueError, match=f"a filter of {kernel_size} does not fit"):
            lab.output_size(width, kernel_size, padding, stride)
    else:
        size = lab.output_size(width, kernel_size, padding, stride)
        assert convolution(torch.zeros(1, 1, width, width)).shape == (1, 1, size, size)


# The options of Report A's network: the layers that differ from the plain network's or are not in
# it, and how many parameters more than 55,274 there are.
VARIANTS = [
    ({"kernel_size": 3}, {"conv1": nn.Conv2d(1, 10, 3)}, -10 * 16),
    ({"kernel_size": 7, "padding": 3},
     {"conv1": nn.Conv2d(1, 10, 7, padding=3), "linear1": nn.Linear(500, 128)},
     10 * 24 + 180 * 128),
    ({"stride": 2}, {"conv1": nn.Conv2d(1, 10, 5, 2), "linear1": nn.Linear(20, 128)}, -300 * 128),
    ({"width": 2},
     {"conv1": nn.Conv2d(1, 20, 5), "conv2": nn.Conv2d(20, 40, 5), "linear1": nn.Linear(640, 256),
      "linear2": nn.Linear(256, 128), "linear3": nn.Linear(128, 10)},
     218_842 - 55_274),
    ({"linear_width": 0.5},
     {"linear1": nn.Linear(320, 64), "linear2": nn.Linear(64, 32), "linear3": nn.Linear(32, 10)},
     -321 * 64 - 129 * 64 + 65 * 32 - 32 * 10),
    ({"pooling": "average"}, {"pool1": nn.AvgPool2d(2), "pool2": nn.AvgPool2d(2)}, 0),
    ({"pooling": "stride"},
     {"pool1": nn.Conv2d(10, 10, 2, stride=2), "pool2": nn.Conv2d(20, 20, 2, stride=2)},
     10 * 41 + 20 * 81),
    ({"separable": True},
     {"depthwise2": nn.Conv2d(10, 10, 5, groups=10), "conv2": nn.Conv2d(10, 20, 1)},
     10 * 26 + 20 * 11 - 20 * 251),
    ({"extra_conv": True},
     {"conv2b": nn.Conv2d(20, 20, 3, padding=1), "relu2b": nn.ReLU()}, 20 * 181),
    ({"residual": True}, {"residual": models.Residual(20)}, 2 * 20 * 181),
    ({"extra_linear": True}, {"linear2b": nn.Linear(64, 64), "relu4b": nn.ReLU()}, 64 * 65),
    ({"batch_norm": True}, {"norm1": nn.BatchNorm2d(10), "norm2": nn.BatchNorm2d(20)}, 60),
    ({"dropout2d": 0.2}, {"dropout2d_1": nn.Dropout2d(0.2), "dropout2d_2": nn.Dropout2d(0.2)}, 0),
    ({"dropout1": 0.5}, {"dropout1": nn.Dropout(0.5)}, 0),
    ({"dropout2": 0.3}, {"dropout2": nn.Dropout(0.3)}, 0),
]  # fmt: skip


def layer_texts(model: nn.Module) -> dict[str, str]:
    return {name: repr(layer) for name, layer in model.named_children()}


@pytest.mark.parametrize(
    ("options", "differing", "parameters"), VARIANTS, ids=[str(variant[0]) for variant in VARIANTS]
)
def test_an_option_of_report_a_changes_one_thing_that_learns(options, differing, parameters):
    torch.manual_seed(0)
    plain, variant = models.report_a(), models.report_a(**options)
    expected = layer_texts(plain) | {name: repr(layer) for name, layer in differing.items()}
    assert layer_texts(variant) == expected
    assert [name for name in layer_texts(variant) if hasattr(plain, name)] == [*layer_texts(plain)]
    assert lab.parameter_count(variant) == 55_274 + parameters
    nn.CrossEntropyLoss()(variant(torch.rand(32, 1, 28, 28)), torch.arange(32) % 10).backward()
    for name, parameter in variant.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any() or parameter.ndim == 1, name


FIRST = "input conv1 norm1 pool1 relu1 dropout2d_1 "
ADDED = {"extra_conv": True, "extra_linear": True, "dropout1": 0.5, "dropout2": 0.5}


@pytest.mark.parametrize(
    ("options", "names", "shapes"),
    [
        (
            {"second_conv": False, "pooling": "stride"},
            FIRST + "residual flatten linear1 relu3 linear2 relu4 linear3",
            {"residual": (1, 10, 12, 12)},
        ),
        (
            {"separable": True, "pooling": "stride", **ADDED},
            FIRST + "depthwise2 conv2 norm2 pool2 relu2 dropout2d_2 "
            "conv2b norm2b relu2b dropout2d_2b residual "
            "flatten linear1 relu3 dropout1 linear2 relu4 dropout2 linear2b relu4b linear3",
            {"depthwise2": (1, 10, 8, 8), "conv2b": (1, 20, 4, 4), "residual": (1, 20, 4, 4)},
        ),
    ],
    ids=["one convolution", "every addition"],
)
def test_layers_stand_in_order_with_every_layer_an_option_adds(options, names, shapes):
    model = models.report_a(**options, residual=True, batch_norm=True, dropout2d=0.1)
    found = dict(lab.trace_shapes(model))
    assert " ".join(found) == names
    assert found == found | shapes | {"linear3": (1, 10)}


@pytest.mark.parametrize("name", ["dropout2d", "dropout1", "dropout2"])
def test_dropout_acts_in_training_only_and_draws_no_weights(name):
    x = torch.rand(8, 1, 28, 28)
    torch.manual_seed(0)
    plain = models.report_a().eval()
    torch.manual_seed(0)
    variant = models.report_a(**{name: 0.5})
    assert not torch.equal(variant(x), variant(x))
    assert torch.equal(variant.eval()(x), plain(x))


@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_residual_block_adds_its_change_to_what_it_is_given(batch_norm):
    block = models.Residual(4, batch_norm).eval()
    x = torch.rand(2, 4, 5, 3)
    f = block.change
    maps = f.conv1(x)
    maps = f.conv2(torch.relu(f.norm1(maps) if batch_norm else maps))
    assert torch.equal(block(x), torch.relu(x + (f.norm2(maps) if batch_norm else maps)))


@pytest.mark.parametrize(
    ("width", "sizes"), [(0.5, (5, 10, 64, 32)), (1.26, (13, 25, 161, 81)), (0.001, (1, 1, 1, 1))]
)
def test_width_is_rounded_and_leaves_at_least_one_of_each(width, sizes):
    model = models.report_a(width=width)
    weights = (model.conv1, model.conv2, model.linear1, model.linear2)
    assert tuple(len(layer.weight) for layer in weights) == sizes


@pytest.mark.parametrize(
    ("build", "option", "values", "expected"),
    [
        (lab.output_size, "kernel_size", (0, -1), "at least 1"),
        (lab.output_size, "stride", (0,), "at least 1"),
        (lab.output_size, "padding", (-1,), "at least 0"),
        (models.report_a, "pooling", ("mean", "", None), "one of max, average, stride"),
        (models.report_a, "width", (0, -1, math.nan, math.inf), "above 0"),
        (models.report_a, "linear_width", (0,), "above 0"),
        (models.report_a, "dropout2d", (1, 1.5, -0.1, math.nan), r"in \[0, 1\)"),
        (models.report_a, "dropout1", (1,), r"in \[0, 1\)"),
        (models.report_a, "dropout2", (1,), r"in \[0, 1\)"),
        (models.fast, "activation", ("tanh",), "one of relu, gelu"),
        (models.fast, "width", (0,), "at least 1"),
        (models.fast, "hidden", (0,), "at least 1"),
        (models.fast, "image_size", (11,), "at least 12"),
        (models.deep, "width", (0,), "at least 1"),
        (models.deep, "image_size", (7,), "at least 8"),
    ],
)
def test_a_value_that_an_option_cannot_take_is_refused_by_name(build, option, values, expected):
    needed = {"width": 28, "kernel_size": 3} if build is lab.output_size else {}
    for value in values:
        with pytest.raises(ValueError, match=f"{option} must be {expected}, found {value!r}"):
            build(**needed | {option: value})


@pytest.mark.parametrize("options", [{"kernel_size": 25}, {"kernel_size": 15, "stride": 2}])
def test_a_report_a_that_uses_up_the_image_is_refused_by_what_was_asked_for(options):
    with pytest.raises(ValueError, match="at least 6×6") as refused:
        models.report_a(**options)
    assert all(f"{name}={value}" in str(refused.value) for name, value in options.items())
    with pytest.raises(ValueError, match="convolution that second_conv=False leaves out"):
        models.report_a(second_conv=False, separable=True)


FLAGS = ["separable", "extra_conv", "residual", "extra_linear", "batch_norm"]
OPTIONS = {
    "kernel_size": st.integers(1, 9),
    "padding": st.integers(0, 3),
    "width": st.sampled_from([0.01, 0.3, 1.5]),
    "pooling": st.sampled_from([*models.POOLINGS]),
    "dropout2d": st.sampled_from([0, 0.5]),
}


@settings(deadline=None, max_examples=30)
@given(st.fixed_dictionaries(OPTIONS | dict.fromkeys(FLAGS, st.booleans())))
def test_any_options_of_report_a_give_ten_numbers_an_image(options):
    assert models.report_a(**options)(torch.zeros(3, 1, 28, 28)).shape == (3, 10)


@pytest.mark.parametrize(("option", "layer"), [("softmax", "softmax"), ("last_relu", "relu4")])
def test_an_option_of_report_b_code_leaves_out_the_layer_it_names(option, layer):
    plain, changed = (layer_texts(models.report_b_code(**{option: v})) for v in (True, False))
    assert plain.keys() - changed.keys() == {layer}


def test_trace_shapes_follows_report_a_from_28_pixels_to_10_logits():
    shapes = dict(lab.trace_shapes(models.report_a()))
    maps = {"input": (1, 28, 28), "conv1": (10, 24, 24), "pool1": (10, 12, 12), "pool2": (20, 4, 4)}
    expected = maps | {"flatten": (320,), "linear3": (10,)}
    assert {name: shapes[name][1:] for name in expected} == expected


@pytest.mark.parametrize("look", [lab.trace_shapes, lab.multiply_adds])
def test_looking_at_a_model_leaves_it_as_it_was(look):
    model = models.report_b_code()
    model.norm1.eval()
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    look(model)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


CONV1, CONV2 = 10 * 24 * 24 * 25, 20 * 8 * 8 * 10 * 25
PLAIN = CONV1 + CONV2 + 320 * 128 + 128 * 64 + 64 * 10  # 513,792
TWICE = nn.Linear(6, 6, bias=False)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (models.report_a(kernel_size=3, padding=1),
         10 * 784 * 9 + 20 * 100 * 250 + 500 * 128 + 8_832),
        (models.report_a(width=2), 2 * CONV1 + 4 * CONV2 + 640 * 256 + 256 * 128 + 128 * 10),
        (models.report_a(separable=True), PLAIN - CONV2 + 10 * 64 * 25 + 20 * 64 * 10),
        (models.report_a(pooling="stride"), PLAIN + 10 * 144 * 10 * 4 + 20 * 16 * 20 * 4),
        (models.report_a(residual=True), PLAIN + 2 * 20 * 4 * 4 * 20 * 9),
        (models.report_a(pooling="average", batch_norm=True, dropout1=0.5), PLAIN),
        (models.report_a().double(), PLAIN),
        (nn.Sequential(nn.Flatten(2), nn.Linear(784, 6), TWICE, TWICE), 784 * 6 + 2 * 36),
    ],
    ids=["kernel", "width", "separable", "stride", "residual", "free", "float64", "layer twice"],
)  # fmt: skip
def test_multiply_adds_are_those_worked_out_by_hand(model, expected):
    assert lab.multiply_adds(model) == expected
    assert lab.multiply_adds(nn.Linear(6, 4), (5, 6)) == 5 * 24  # of another shape of input


def test_the_fast_networks_hidden_layer_has_the_activation_named():
    for activation, kind in (("relu", nn.ReLU), ("gelu", nn.GELU)):
        assert type(models.fast(activation=activation).activation3) is kind


@pytest.mark.parametrize("image_size", [12, 20, 21, 28])
def test_networks_with_an_image_size_take_images_of_that_size(image_size):
    fast, deep = (build(image_size=image_size) for build in (models.fast, models.deep))
    for model in (fast, deep):
        assert model(torch.rand(2, 1, image_size, image_size)).shape == (2, 10)
    last = ((image_size - 5) // 2 - 1) // 2
    convolutions = 16 * 25 + 32 + 32 * 16 * 9 + 64
    linears = (32 * last * last + 1) * 256 + 257 * 10
    assert lab.parameter_count(fast) == convolutions + linears
    assert lab.parameter_count(deep.linear) == 128 * 10 + 10  # hardly a weight
