"""Which modules `scripts/mutate.py` plants faults in, and the quick tests that are to notice those."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True)
class Room:
    """Some modules and the tests that are to notice faults in them."""

    modules: tuple[str, ...]
    """Patterns of files."""

    tests: tuple[str, ...]
    """Arguments of pytest."""

    imports: tuple[str, ...]
    """Packages to import before forking."""

    own: Mapping[str, tuple[str, ...]] | None = None
    """Instead of `tests`, by names of files: those that concern a module alone, the closest first."""

    def tests_of(self, file: str) -> tuple[str, ...]:
        """The arguments of pytest for a mutant of a file."""
        return (self.own or {}).get(Path(file).stem, self.tests)


_LIGHT: Final = ("pytest", "_pytest.assertion.rewrite", "numpy", "msgspec", "PIL.Image", "onnxruntime", "hypothesis")
_HEAVY: Final = (*_LIGHT, "torch", "onnx", "safetensors.torch")

_PLACES: Final = (
    "tests/test_places.py::test_a_place_that_is_none",
    "tests/test_places.py::test_no_path_has_a_nul",
    "tests/test_places.py::test_the_longest_names_are_used",
    "tests/test_places.py::test_a_disk_without_room_is_found_first",
)
_PICTURES: Final = tuple(
    f"tests/runtime/test_images.py::test_{name}"
    for name in (
        *("place_size_and_polarity", "uneven_light", "the_edge_of_a_shadow", "specks_and_frames_are_left_out"),
        *("ink_that_touches_the_border", "thin_and_thick_pens_come_near_mnists_weight", "a_detached_piece_stays"),
        *("blank_pages_are_empty", "a_one_by_a_hairline_is_framed", "a_far_corner_of_a_large_photograph"),
        *("digits_of_a_line", "two_lines_are_read_one_after_the_other", "underlines_and_specks_are_no_digits"),
        *("touching_neighbours_are_cut", "a_blank_page_has_no_digits"),
    )
)
_DECODED: Final = tuple(
    f"tests/runtime/test_images.py::test_{name}"
    for name in (
        *("every_mode_keeps_its_greys", "every_format_is_read", "16_bits_are_scaled", "impossible_floats_are_refused"),
        *("white_of_a_16_bit_picture_is_that_of_the_bits_it_uses", "floats_within_0_and_1_are_shares_of_white"),
        *("ink_on_transparent_ground_is_seen", "alpha_that_is_the_same_everywhere_says_nothing"),
        *("a_transparent_palette", "colours_of_one_luminance_are_told_apart", "half_a_file_is_refused"),
    )
)
_HOSTILE: Final = (
    "tests/runtime/test_hostile_inputs.py::test_what_would_take_long_to_decode_is_refused_at_once",
    "tests/runtime/test_hostile_inputs.py::test_the_same_in_moderation_is_decoded",
)
_PAPER: Final = "tests/images/test_paper.py"
_ON_PAPER: Final = (
    f"{_PAPER}::test_the_strokes_of_digits_are_no_lines_of_the_paper",
    f"{_PAPER}::test_a_long_stem_is_no_line_of_the_paper",
    f"{_PAPER}::test_a_line_beside_them_is_one",
    f"{_PAPER}::test_a_line_of_a_form_ends_before_the_border",
    f"{_PAPER}::test_a_frame_goes_as_a_whole",
)
_IN_PIECES: Final = (f"{_PAPER}::test_the_pieces_of_a_digit_are_one", f"{_PAPER}::test_the_pieces_of_a_digit_are_kept")

_OF_IMAGES: Final = {
    "arrays": ("tests/images/test_arrays.py",),
    "background": ("tests/images/test_background.py", *_PICTURES),
    "cleaning": ("tests/images/test_strokes.py", *_IN_PIECES, *_PICTURES),
    "components": ("tests/images/test_arrays.py", "tests/runtime/test_images.py::test_components_against_a_flood_fill"),
    "content": ("tests/images/test_steps.py",),
    "cuts": ("tests/images/test_strokes.py", "tests/runtime/test_images.py::test_a_cut_leaves_two_tall_parts"),
    "files": ("tests/images/test_steps.py", *_DECODED, *_HOSTILE),
    "ink": ("tests/images/test_background.py", *_PICTURES, "tests/runtime/test_images.py::test_noise_is_no_digit"),
    "jpeg": ("tests/images/test_steps.py",),
    "lines": ("tests/images/test_strokes.py", *_PICTURES),
    "modes": ("tests/images/test_steps.py", *_DECODED),
    "png": ("tests/images/test_steps.py",),
    "rules": ("tests/images/test_strokes.py", *_ON_PAPER),
    "sheets": ("tests/images/test_background.py",),
    "tiff": ("tests/images/test_steps.py",),
}

_COMPARED: Final = tuple(
    f"tests/export/test_parity.py::test_{name}"
    for name in (
        *("the_images_compared_at_every_size", "batches", "pixels_as_torch_lays_them_out", "tolerances"),
        *("the_edges_of_int8", "beyond_the_edges", "weights_rounded_to_the_finest_steps", "one_weight_of_many_counts"),
        *("weights_are_rounded_to_nearest", "what_cannot_be_changed"),
        *("the_reference", "the_same_model", "what_is_no_number_is_counted", "types_and_shapes_come_first"),
        *("bit_for_bit", "answers_that_flip", "a_logit_that_is_off"),
    )
)
_PROVED: Final = tuple(
    f"tests/export/test_parity.py::test_{name}"
    for name in (
        *("a_sound_file", "torchscript", "files_with_other_metadata", "golden_vectors_up_to_the_limit"),
        *("a_file_made_from_another_needs_it", "what_is_reported_while_it_lasts", "the_same_origin"),
        *("weights_are_checked_too", "other_images_than_those_for_the_scales", "what_cannot_be_changed"),
    )
)
_RECOMMENDED: Final = (
    "tests/export/test_recommendation.py::test_nothing_speaks_against_a_good_file",
    "tests/export/test_recommendation.py::test_every_objection",
    "tests/export/test_recommendation.py::test_static_int8_where_it_is_good_and_dynamic_int8_never",
    *(
        f"tests/export/test_parity.py::test_{name}"
        for name in ("calls_in_turns", "why_not_float32", "several_objections", "records_of_what_is_measured")
    ),
    "tests/export/test_parity.py::test_what_is_measured",
)

ROOMS: Final = {
    "contract": Room(
        ("mnist_edge/contract.py", "mnist_edge/runtime/prediction.py"),
        ("tests/test_contract.py", "tests/runtime/test_prediction.py"),
        _LIGHT,
    ),
    "records": Room(
        ("mnist_edge/bundle/[!w]*.py",),
        ("tests/bundle/test_records.py", "tests/bundle/test_bounds.py"),
        _LIGHT,
        {"locking": ("tests/bundle/test_locking.py",), "places": _PLACES},
    ),
    "preprocessing": Room(("mnist_edge/images/*.py",), ("tests/images/test_steps.py", *_PICTURES), _LIGHT, _OF_IMAGES),
    "parity": Room(
        ("mnist_edge/export/parity.py", "mnist_edge/export/proof.py", "mnist_edge/export/recommendation.py"),
        _COMPARED,
        _HEAVY,
        {"proof": _PROVED, "recommendation": _RECOMMENDED},
    ),
}
