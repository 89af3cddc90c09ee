"""The networks: what the reports say they are, and what their options change."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import mnist_lab as lab
from mnist_lab import models

REPORT_A = [
    nn.Conv2d(1, 10, 5),
    nn.MaxPool2d(2),
    nn.ReLU(),
    nn.Conv2d(10, 20, 5),
    nn.MaxPool2d(2),
    nn.ReLU(),
    nn.Flatten(),
    nn.Linear(320, 128),
    nn.ReLU(),
    nn.Linear(128, 64),
    nn.ReLU(),
    nn.Linear(64, 10),
]
REPORT_B = [
    nn.Conv2d(1, 32, 3, padding=1),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(32, 64, 3, padding=1),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Flatten(),
    nn.Linear(3136, 128),
    nn.ReLU(),
    nn.Linear(128, 10),
]
REPORT_B_CODE = [
    nn.Conv2d(1, 16, 3, padding=1),
    nn.BatchNorm2d(16),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(16, 32, 3, padding=1),
    nn.BatchNorm2d(32),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Flatten(),
    nn.Linear(1568, 64),
    nn.ReLU(),
    nn.Linear(64, 10),
    nn.ReLU(),
    nn.Linear(10, 10),
    nn.Softmax(dim=1),
]


@pytest.mark.parametrize(
    ("build", "layers"),
    [
        (models.report_a, REPORT_A),
        (models.report_b, REPORT_B),
        (models.report_b_code, REPORT_B_CODE),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_report_network_has_the_layers_its_report_lists(build, layers):
    assert [repr(layer) for layer in build()] == [repr(layer) for layer in layers]


@pytest.mark.parametrize(
    ("build", "count"),
    [(models.report_a, 55_274), (models.report_b, 421_642), (models.report_b_code, 106_072)],
)
def test_a_report_network_has_its_number_of_parameters(build, count):
    assert lab.parameter_count(build()) == count


def test_frozen_parameters_are_not_counted():
    model = models.report_a()
    model.conv1.requires_grad_(False)
    assert lab.parameter_count(model) == 55_274 - (10 * 25 + 10)


@settings(deadline=None, max_examples=60)
@given(
    width=st.integers(1, 40),
    kernel_size=st.integers(1, 12),
    padding=st.integers(0, 4),
    stride=st.integers(1, 5),
)
def test_output_size_is_that_of_a_real_convolution(width, kernel_size, padding, stride):
    convolution = nn.Conv2d(1, 1, kernel_size, stride, padding)
    image = torch.zeros(1, 1, width, width)
    if kernel_size > width + 2 * padding:
        with pytest.raises(ValueError, match=f"a filter of {kernel_size} does not fit"):
            lab.output_size(width, kernel_size, padding, stride)
    else:
        size = lab.output_size(width, kernel_size, padding, stride)
        assert convolution(image).shape == (1, 1, size, size)


@pytest.mark.parametrize("wrong", [{"kernel_size": 0}, {"stride": 0}, {"padding": -1}])
def test_a_filter_that_cannot_exist_is_refused(wrong):
    with pytest.raises(ValueError, match=r"{}={}".format(*next(iter(wrong.items())))):
        lab.output_size(28, **{"kernel_size": 3, **wrong})


@pytest.mark.parametrize(
    "options", [{"kernel_size": 3}, {"stride": 2}, {"padding": 1}, {"kernel_size": 7, "padding": 3}]
)
def test_an_option_of_report_a_changes_its_first_convolution(options):
    plain, changed = models.report_a(), models.report_a(**options)
    expected = nn.Conv2d(1, 10, **{"kernel_size": 5, **options})
    assert repr(changed.conv1) == repr(expected)
    differing = {
        name
        for (name, layer), other in zip(plain.named_children(), changed, strict=True)
        if repr(layer) != repr(other)
    }
    assert differing <= {"conv1", "linear1"}
    assert changed(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


# The options of Report A's network beyond its first convolution: the layers that differ from the
# plain network's or are not in it, and how many parameters more than 55,274 there are.
VARIANTS = [
    (
        {"width": 2},
        {
            "conv1": nn.Conv2d(1, 20, 5),
            "conv2": nn.Conv2d(20, 40, 5),
            "linear1": nn.Linear(640, 256),
            "linear2": nn.Linear(256, 128),
            "linear3": nn.Linear(128, 10),
        },
        218_842 - 55_274,
    ),
    ({"pooling": "average"}, {"pool1": nn.AvgPool2d(2), "pool2": nn.AvgPool2d(2)}, 0),
    (
        {"pooling": "stride"},
        {"pool1": nn.Conv2d(10, 10, 2, stride=2), "pool2": nn.Conv2d(20, 20, 2, stride=2)},
        10 * 41 + 20 * 81,
    ),
    (
        {"separable": True},
        {"depthwise2": nn.Conv2d(10, 10, 5, groups=10), "conv2": nn.Conv2d(10, 20, 1)},
        10 * 26 + 20 * 11 - 20 * 251,
    ),
    (
        {"extra_conv": True},
        {"conv2b": nn.Conv2d(20, 20, 3, padding=1), "relu2b": nn.ReLU()},
        20 * 181,
    ),
    ({"residual": True}, {"residual": models.Residual(20)}, 2 * 20 * 181),
    ({"extra_linear": True}, {"linear2b": nn.Linear(64, 64), "relu4b": nn.ReLU()}, 64 * 65),
    (
        {"batch_norm": True},
        {"norm1": nn.BatchNorm2d(10), "norm2": nn.BatchNorm2d(20)},
        2 * 10 + 2 * 20,
    ),
    (
        {"dropout2d": 0.2},
        {"dropout2d_1": nn.Dropout2d(0.2), "dropout2d_2": nn.Dropout2d(0.2)},
        0,
    ),
    ({"dropout1": 0.5}, {"dropout1": nn.Dropout(0.5)}, 0),
    ({"dropout2": 0.3}, {"dropout2": nn.Dropout(0.3)}, 0),
]
for_each_variant = pytest.mark.parametrize(
    ("options", "differing", "parameters"), VARIANTS, ids=[str(variant[0]) for variant in VARIANTS]
)


def layer_texts(model: nn.Module) -> dict[str, str]:
    return {name: repr(layer) for name, layer in model.named_children()}


@for_each_variant
def test_an_option_of_report_a_changes_one_thing(options, differing, parameters):
    plain, variant = models.report_a(), models.report_a(**options)
    expected = layer_texts(plain) | {name: repr(layer) for name, layer in differing.items()}
    assert layer_texts(variant) == expected
    assert [name for name in layer_texts(variant) if hasattr(plain, name)] == [*layer_texts(plain)]
    assert lab.parameter_count(variant) == 55_274 + parameters


@for_each_variant
def test_an_option_of_report_a_leaves_the_shapes_of_the_other_layers(
    options, differing, parameters
):
    plain = dict(lab.trace_shapes(models.report_a()))
    variant = dict(lab.trace_shapes(models.report_a(**options)))
    assert variant.keys() == plain.keys() | differing.keys()
    for name, (images, features, *size) in plain.items():
        times = options.get("width", 1) if name not in ("input", "linear3") else 1
        assert variant[name] == (images, times * features, *size)


@for_each_variant
def test_the_loss_of_a_variant_has_a_gradient_for_every_parameter(options, differing, parameters):
    torch.manual_seed(0)
    model = models.report_a(**options)
    nn.CrossEntropyLoss()(model(torch.rand(32, 1, 28, 28)), torch.arange(32) % 10).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        if parameter.ndim > 1:
            assert parameter.grad.any(), name


def test_trace_shapes_reads_in_order_with_every_layer_an_option_adds():
    model = models.report_a(
        separable=True,
        extra_conv=True,
        residual=True,
        extra_linear=True,
        batch_norm=True,
        dropout2d=0.1,
        dropout1=0.5,
        dropout2=0.5,
    )
    names = [name for name, _ in lab.trace_shapes(model)]
    assert " ".join(names) == (
        "input conv1 norm1 pool1 relu1 dropout2d_1 "
        "depthwise2 conv2 norm2 pool2 relu2 dropout2d_2 "
        "conv2b norm2b relu2b dropout2d_2b residual "
        "flatten linear1 relu3 dropout1 linear2 relu4 dropout2 linear2b relu4b linear3"
    )
    shapes = dict(lab.trace_shapes(model))
    assert shapes["depthwise2"] == (1, 10, 8, 8)
    assert shapes["conv2b"] == shapes["residual"] == (1, 20, 4, 4)
    assert shapes["linear2b"] == (1, 64)


def test_report_a_without_its_second_convolution():
    model = models.report_a(second_conv=False, batch_norm=True, residual=True, dropout2d=0.1)
    names = [name for name, _ in lab.trace_shapes(model)]
    assert " ".join(names) == (
        "input conv1 norm1 pool1 relu1 dropout2d_1 residual "
        "flatten linear1 relu3 linear2 relu4 linear3"
    )
    assert dict(lab.trace_shapes(model))["flatten"] == (1, 10 * 12 * 12)
    with pytest.raises(ValueError, match="second convolution, which second_conv=False leaves out"):
        models.report_a(second_conv=False, separable=True)


def test_linear_width_changes_the_linear_layers_alone():
    model = models.report_a(linear_width=0.5)
    shapes = dict(lab.trace_shapes(model))
    assert shapes["conv2"] == (1, 20, 8, 8)
    assert (shapes["linear1"], shapes["linear2"], shapes["linear3"]) == ((1, 64), (1, 32), (1, 10))
    with pytest.raises(ValueError, match="linear_width: expected a number above 0"):
        models.report_a(linear_width=0)


def test_report_a_draws_its_weights_in_the_order_of_its_layers():
    torch.manual_seed(3)
    written_out = nn.Sequential(
        *(nn.Conv2d(1, 10, 5), nn.MaxPool2d(2), nn.ReLU()),
        *(nn.Conv2d(10, 20, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(320, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10)),
    )
    after = torch.rand(1)
    torch.manual_seed(3)
    model = models.report_a()
    assert torch.equal(torch.rand(1), after)
    pairs = zip(model.parameters(), written_out.parameters(), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)


@pytest.mark.parametrize("name", ["dropout2d", "dropout1", "dropout2"])
def test_dropout_acts_in_training_only_and_draws_no_weights(name):
    x = torch.rand(8, 1, 28, 28)
    torch.manual_seed(0)
    plain = models.report_a().eval()
    torch.manual_seed(0)
    variant = models.report_a(**{name: 0.5})
    assert not torch.equal(variant(x), variant(x))
    assert torch.equal(variant.eval()(x), plain(x))


def test_channel_dropout_drops_whole_channels():
    torch.manual_seed(0)
    maps = models.report_a(dropout2d=0.5).dropout2d_1(torch.ones(4, 10, 12, 12))
    channels = maps.flatten(2)
    assert set(channels.amax(2).unique().tolist()) == {0, 2}
    assert torch.equal(channels.amax(2), channels.amin(2))


@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_residual_block_adds_its_change_to_what_it_is_given(batch_norm):
    block = models.Residual(4, batch_norm).eval()
    x = torch.rand(2, 4, 5, 3)
    f = block.change
    maps = f.conv1(x)
    maps = f.conv2(torch.relu(f.norm1(maps) if batch_norm else maps))
    assert torch.equal(block(x), torch.relu(x + (f.norm2(maps) if batch_norm else maps)))
    last = f.norm2 if batch_norm else f.conv2
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    assert torch.equal(block(x), x)


def test_batch_norm_follows_every_convolution_but_those_in_place_of_a_pool():
    model = models.report_a(batch_norm=True, extra_conv=True, residual=True, pooling="stride")
    norms = [name for name, layer in model.named_modules() if isinstance(layer, nn.BatchNorm2d)]
    assert norms == ["norm1", "norm2", "norm2b", "residual.change.norm1", "residual.change.norm2"]


@pytest.mark.parametrize(
    ("width", "sizes"), [(0.5, (5, 10, 64, 32)), (1.26, (13, 25, 161, 81)), (0.001, (1, 1, 1, 1))]
)
def test_width_is_rounded_and_leaves_at_least_one_of_each(width, sizes):
    model = models.report_a(width=width)
    weights = (model.conv1, model.conv2, model.linear1, model.linear2)
    assert tuple(len(layer.weight) for layer in weights) == sizes


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        *(("pooling", value, "'max', 'average' or 'stride'") for value in ("mean", "", None, 2)),
        *(("width", value, "above 0") for value in (0, -1, math.nan, math.inf)),
        *(
            (name, value, r"in \[0, 1\)")
            for name in ("dropout2d", "dropout1", "dropout2")
            for value in (1, 1.5, -0.1, math.nan)
        ),
    ],
)
def test_a_value_that_an_option_cannot_take_is_refused(option, value, expected):
    with pytest.raises(ValueError, match=f"{option}: expected .*{expected}, found {value!r}"):
        models.report_a(**{option: value})


@settings(deadline=None, max_examples=60)
@given(
    first=st.fixed_dictionaries(
        {
            "kernel_size": st.integers(1, 20),
            "stride": st.integers(1, 3),
            "padding": st.integers(0, 3),
        }
    ),
    others=st.fixed_dictionaries(
        {
            "width": st.sampled_from([0.01, 0.3, 1, 1.5]),
            "pooling": st.sampled_from(["max", "average", "stride"]),
            **dict.fromkeys(
                ["separable", "extra_conv", "residual", "extra_linear", "batch_norm"],
                st.booleans(),
            ),
            **dict.fromkeys(["dropout2d", "dropout1", "dropout2"], st.sampled_from([0, 0.5])),
        }
    ),
    count=st.integers(1, 3),
)
def test_any_options_of_report_a_give_ten_numbers_an_image(first, others, count):
    size = lab.output_size(28, **first)
    if size < 12:
        with pytest.raises(ValueError, match=f"at least 6×6 .* found {size // 2}×{size // 2}"):
            models.report_a(**first, **others)
        return
    model = models.report_a(**first, **others)
    shapes = dict(lab.trace_shapes(model, (count, 1, 28, 28)))
    channels = model.conv1.out_channels
    assert shapes["conv1"] == (count, channels, size, size)
    assert shapes["pool1"] == (count, channels, size // 2, size // 2)
    assert shapes["conv2"][2:] == (lab.output_size(size // 2, 5),) * 2
    assert shapes["linear3"] == (count, 10)
    assert model(torch.zeros(3, 1, 28, 28)).shape == (3, 10)


@pytest.mark.parametrize(
    ("options", "left_out"),
    [
        ({"softmax": False}, {"softmax"}),
        ({"last_relu": False}, {"relu4"}),
        ({"softmax": False, "last_relu": False}, {"softmax", "relu4"}),
    ],
)
def test_an_option_of_report_b_code_leaves_out_the_layer_it_names(options, left_out):
    def names(model):
        return {name for name, _ in model.named_children()}

    plain, changed = models.report_b_code(), models.report_b_code(**options)
    assert names(plain) - names(changed) == left_out
    assert names(changed) < names(plain)


@pytest.mark.parametrize(
    "options",
    [{"kernel_size": 25}, {"stride": 4}, {"stride": 30}, {"kernel_size": 15, "stride": 2}],
)
def test_a_report_a_that_uses_up_the_image_is_refused_by_what_was_asked_for(options):
    with pytest.raises(ValueError) as refused:
        models.report_a(**options)
    assert all(f"{name}={value}" in str(refused.value) for name, value in options.items())
    assert "second 5×5 convolution" in str(refused.value)


def test_trace_shapes_follows_report_a_from_28_pixels_to_10_logits():
    assert lab.trace_shapes(models.report_a()) == [
        ("input", (1, 1, 28, 28)),
        ("conv1", (1, 10, 24, 24)),
        ("pool1", (1, 10, 12, 12)),
        ("relu1", (1, 10, 12, 12)),
        ("conv2", (1, 20, 8, 8)),
        ("pool2", (1, 20, 4, 4)),
        ("relu2", (1, 20, 4, 4)),
        ("flatten", (1, 320)),
        ("linear1", (1, 128)),
        ("relu3", (1, 128)),
        ("linear2", (1, 64)),
        ("relu4", (1, 64)),
        ("linear3", (1, 10)),
    ]


@pytest.mark.parametrize("input_shape", [(3, 1, 28, 28), (3, 2, 28, 28)], ids=["fits", "raises"])
def test_trace_shapes_leaves_modes_weights_and_running_statistics_alone(input_shape):
    model = models.report_b_code()
    model.norm1.eval()
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    if input_shape[1] == 1:
        lab.trace_shapes(model, input_shape)
    else:
        with pytest.raises(RuntimeError):
            lab.trace_shapes(model, input_shape)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


CONV1, CONV2 = 10 * 24 * 24 * 25, 20 * 8 * 8 * 10 * 25
LINEARS = 320 * 128 + 128 * 64 + 64 * 10
REPORT_A_COST = CONV1 + CONV2 + LINEARS  # 144,000 + 320,000 + 49,792


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, REPORT_A_COST),
        (
            {"kernel_size": 3, "padding": 1},
            10 * 28 * 28 * 9 + 20 * 10 * 10 * 250 + 500 * 128 + 8_832,
        ),
        ({"width": 2}, 2 * CONV1 + 4 * CONV2 + 640 * 256 + 256 * 128 + 128 * 10),
        ({"separable": True}, REPORT_A_COST - CONV2 + 10 * 64 * 25 + 20 * 64 * 10),
        ({"pooling": "stride"}, REPORT_A_COST + 10 * 12 * 12 * 10 * 4 + 20 * 4 * 4 * 20 * 4),
        ({"extra_conv": True}, REPORT_A_COST + 20 * 4 * 4 * 20 * 9),
        ({"residual": True}, REPORT_A_COST + 2 * 20 * 4 * 4 * 20 * 9),
        ({"extra_linear": True}, REPORT_A_COST + 64 * 64),
        ({"pooling": "average", "batch_norm": True, "dropout1": 0.5}, REPORT_A_COST),
    ],
    ids=str,
)
def test_multiply_adds_of_report_a_are_those_worked_out_by_hand(options, expected):
    assert lab.multiply_adds(models.report_a(**options)) == expected


def test_multiply_adds_of_report_a_are_513_792():
    assert lab.multiply_adds(models.report_a()) == 513_792


class Twice(nn.Module):
    """One layer, used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(6, 6, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.inner(x))


@pytest.mark.parametrize(
    ("model", "input_shape", "expected"),
    [
        (nn.Conv2d(8, 12, 3, groups=4), (8, 5, 6), 12 * 3 * 4 * 2 * 9),
        (nn.Conv2d(8, 8, (1, 3), groups=8, bias=False), (8, 2, 5), 8 * 2 * 3 * 3),
        (nn.Conv2d(2, 4, 3, stride=2, dilation=2, padding=2), (2, 9, 9), 4 * 5 * 5 * 2 * 9),
        (nn.Conv1d(2, 3, 4), (2, 10), 3 * 7 * 2 * 4),
        (nn.Conv3d(1, 2, 2), (1, 3, 3, 3), 2 * 2 * 2 * 2 * 8),
        (nn.Linear(6, 4), (5, 6), 5 * 4 * 6),
        (nn.Sequential(nn.Sequential(models.Residual(3)), nn.ReLU()), (3, 4, 4), 2 * 3 * 16 * 27),
        (Twice(), (6,), 2 * 36),
        (nn.Sequential(nn.BatchNorm2d(1), nn.MaxPool2d(2)), (1, 4, 4), 0),
        (nn.Linear(6, 4).double(), (6,), 24),
    ],
    ids=str,
)
def test_multiply_adds_counts_any_model(model, input_shape, expected):
    assert lab.multiply_adds(model, input_shape) == expected


@pytest.mark.parametrize("input_shape", [(1, 28, 28), (2, 28, 28)], ids=["fits", "raises"])
def test_multiply_adds_leaves_the_model_as_it_was(input_shape):
    model = models.report_b_code()
    model.norm1.eval()
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    if input_shape[0] == 1:
        lab.multiply_adds(model, input_shape)
    else:
        with pytest.raises(RuntimeError):
            lab.multiply_adds(model, input_shape)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_the_fast_network_keeps_a_quarter_of_the_places_after_its_first_convolution():
    shapes = dict(lab.trace_shapes(models.fast(image_size=20), (1, 1, 20, 20)))
    assert shapes["conv1"] == (1, 16, 8, 8)  # (20 - 5) // 2 + 1
    assert shapes["pool2"] == (1, 32, 3, 3)
    assert shapes["linear2"] == (1, 10)
    hand_counted = 16 * 25 + 32 + 32 * 16 * 9 + 64 + (288 + 1) * 256 + 257 * 10
    assert lab.parameter_count(models.fast(image_size=20)) == hand_counted


@pytest.mark.parametrize(("activation", "kind"), [("relu", nn.ReLU), ("gelu", nn.GELU)])
def test_the_fast_networks_hidden_layer_has_the_activation_named(activation, kind):
    kinds = [type(layer) for layer in models.fast(activation=activation)]
    assert kinds[kinds.index(nn.Linear) + 1] is kind and kinds.count(nn.ReLU) >= 2


@pytest.mark.parametrize(("build", "size"), [(models.fast, "width"), (models.fast, "hidden"),
                                              (models.deep, "width")])  # fmt: skip
def test_a_network_without_units_is_refused(build, size):
    with pytest.raises(ValueError, match=f"{size}: expected at least 1, found 0"):
        build(**{size: 0})


def test_an_unknown_activation_is_refused():
    with pytest.raises(ValueError, match="activation: expected 'relu' or 'gelu', found 'tanh'"):
        models.fast(activation="tanh")


def test_the_deep_network_has_five_convolutions_and_hardly_a_weight_after_them():
    model = models.deep(width=8)
    shapes = dict(lab.trace_shapes(model))
    assert [shapes[f"conv{i}"][1:] for i in range(1, 6)] == [
        (8, 28, 28),
        (16, 14, 14),
        (16, 14, 14),
        (32, 7, 7),
        (32, 7, 7),
    ]
    assert shapes["last_pool"] == (1, 32, 1, 1)
    assert lab.parameter_count(model.linear) == 32 * 10 + 10


@pytest.mark.parametrize("build", [models.fast, models.deep])
@pytest.mark.parametrize("image_size", [12, 20, 21, 24, 28])
def test_networks_with_an_image_size_take_images_of_that_size(build, image_size):
    answer = build(image_size=image_size)(torch.rand(2, 1, image_size, image_size))
    assert answer.shape == (2, 10)


@pytest.mark.parametrize(("build", "too_small"), [(models.fast, 11), (models.deep, 7)])
def test_images_too_small_for_a_network_are_refused(build, too_small):
    with pytest.raises(ValueError, match=f"image_size: expected at least .* found {too_small}"):
        build(image_size=too_small)
