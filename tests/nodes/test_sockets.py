"""Pictures out of IMAGE sockets, and values that go along with them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.nodepack import Pack


@pytest.fixture
def sockets(pack: Pack) -> Any:
    return pack.module("nodes.sockets")


def test_pictures_of_batches_and_sizes_in_order_and_not_copied(sockets: Any) -> None:
    images = [torch.rand(1, 8, 6, 3), torch.rand(3, 5, 9, 4), torch.rand(1, 2, 2, 1)]
    pictures = sockets.pictures_of(images)
    assert [list(picture.shape) for picture in pictures] == [[8, 6, 3], *[[5, 9, 4]] * 3, [2, 2, 1]]
    assert pictures[2].data_ptr() == images[1][1].data_ptr()


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ([], "the list is empty"),
        ([torch.rand(0, 8, 8, 3)], "the list is empty"),
        ([torch.rand(2, 64, 64)], r"a mask \[2, 64, 64\]; put a Convert Mask to Image node"),
        ([torch.rand(64, 64)], r"a Tensor \[64, 64\] instead of pictures"),
        ([torch.rand(1, 8, 8, 3), "cat.png"], "a str instead of pictures"),
        ([None], "a NoneType instead of pictures"),
        ([torch.rand(1, 4, 16, 64, 64)], r"a Tensor \[1, 4, 16, 64, 64\] instead of pictures"),
    ],
)
def test_what_is_no_picture(sockets: Any, pack: Pack, images: list[Any], said: str) -> None:
    with pytest.raises(pack.module("joycaption.errors").UsageError, match=said):
        sockets.pictures_of(images)


@pytest.mark.parametrize(("values", "chosen"), [("a", "aaa"), ("ab", "abb"), ("abcd", "abc")])
def test_lists_run_side_by_side_and_the_last_value_repeats(sockets: Any, values: str, chosen: str) -> None:
    assert "".join(sockets.along(values, position) for position in range(3)) == chosen


def test_nodes_of_the_pack_connect(pack: Pack) -> None:
    outputs = {id: [one.io_type for one in node.define_schema().outputs] for id, node in pack.nodes.items()}
    for id in ("JoyCaptionCaption", "JoyCaptionFolder"):
        assert pack.inputs(id)["model"].io_type == outputs["JoyCaptionLoad"][0] == "JOYCAPTION_MODEL"
        assert pack.inputs(id)["options"].io_type == outputs["JoyCaptionOptions"][0]
    assert outputs["JoyCaptionOptions"][1] == outputs["JoyCaptionCaption"][0] == "STRING"
