"""The fixed instruction strings of JoyCaption Beta One, as data.

The model does not follow instructions in general; it was trained on exactly these strings, so every byte counts. They
were written by the model's author, fpgaminer, and are published at https://github.com/fpgaminer/joycaption under the
Apache License 2.0. Ours are only the ids, and the labels of the extra options.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["BETA_ONE", "DEFAULT_SYSTEM_PROMPT", "CaptionType", "Catalog"]


@dataclass(frozen=True, slots=True)
class CaptionType:
    """One kind of caption.

    Attributes:
        id: what callers write.
        label: the author's name for it.
        templates: the instruction for any length, for ``{word_count}`` words, and for a ``{length}`` word.
    """

    id: str
    label: str
    templates: tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Catalog:
    """All prompts of one model; another checkpoint has another catalog.

    Attributes:
        model_id: the model's id on the Hugging Face hub.
        types: caption types by id, in the author's order.
        formal: templates of the type ``descriptive`` in the formal tone (older wording, still trained). Its casual tone
            is the type ``descriptive_casual``.
        extras: the sentences of extra options by id, in the order in which they are appended.
        extra_labels: a few words for each extra option, by id, for lists of choices.
        name_option: the sentence that makes the model call a person ``{name}``.
        length_words: the trained length words, with the author's approximate number of words for each.
        word_counts: the numbers of words that the author offers; the templates take any.
        system_prompts: the system prompts the model knows, by id.
    """

    model_id: str
    types: Mapping[str, CaptionType]
    formal: tuple[str, str, str]
    extras: Mapping[str, str]
    extra_labels: Mapping[str, str]
    name_option: str
    length_words: Mapping[str, int]
    word_counts: tuple[int, ...]
    system_prompts: Mapping[str, str]


_STRAIGHTFORWARD = (
    " Begin with the main subject and medium. Mention pivotal elements—people, objects, scenery—using confident, "
    "definite language. Focus on concrete details like color, shape, texture, and spatial relationships. Show how "
    "elements interact. Omit mood and speculative wording. If text is present, quote it exactly. Note any watermarks, "
    "signatures, or compression artifacts. Never mention what's absent, resolution, or unobservable details. Vary your "
    "sentence structure and keep the description concise, without starting with “This image is…” or similar phrasing."
)
_STABLE_DIFFUSION = "stable diffusion prompt that is indistinguishable from a real stable diffusion prompt."
_DANBOORU = (
    "Generate only comma-separated Danbooru tags (lowercase_underscores). Strict order: `artist:`, `copyright:`, "
    "`character:`, `meta:`, then general tags. Include counts (1girl), appearance, clothing, accessories, pose, "
    "expression, actions, background. Use precise Danbooru syntax. No extra text."
)
_E621 = (
    "comma-separated list of e621 tags in alphabetical order for this image. Start with the artist, copyright, "
    "character, species, meta, and lore tags (if any), prefixed by 'artist:', 'copyright:', 'character:', 'species:', "
    "'meta:', and 'lore:'. Then all the general tags."
)
_RULE34 = (
    "comma-separated list of rule34 tags in alphabetical order for this image. Start with the artist, copyright, "
    "character, and meta tags (if any), prefixed by 'artist:', 'copyright:', 'character:', and 'meta:'. Then all the "
    "general tags."
)
_ART_CRITIC = (
    "Analyze this image like an art critic would with information about its composition, style, symbolism, the use of "
    "color, light, any artistic movement it might belong to, etc."
)
_PRODUCT_LISTING = "caption for this image as though it were a product listing."
_SOCIAL_MEDIA = "caption for this image as if it were being used for a social media post."

_TYPES = (
    CaptionType(
        "descriptive",
        "Descriptive",
        (
            "Write a detailed description for this image.",
            "Write a detailed description for this image in {word_count} words or less.",
            "Write a {length} detailed description for this image.",
        ),
    ),
    CaptionType(
        "descriptive_casual",
        "Descriptive (Casual)",
        (
            "Write a descriptive caption for this image in a casual tone.",
            "Write a descriptive caption for this image in a casual tone within {word_count} words.",
            "Write a {length} descriptive caption for this image in a casual tone.",
        ),
    ),
    CaptionType(
        "straightforward",
        "Straightforward",
        (
            "Write a straightforward caption for this image." + _STRAIGHTFORWARD,
            "Write a straightforward caption for this image within {word_count} words." + _STRAIGHTFORWARD,
            "Write a {length} straightforward caption for this image." + _STRAIGHTFORWARD,
        ),
    ),
    CaptionType(
        "stable_diffusion",
        "Stable Diffusion Prompt",
        (
            "Output a " + _STABLE_DIFFUSION,
            "Output a " + _STABLE_DIFFUSION + " {word_count} words or less.",
            "Output a {length} " + _STABLE_DIFFUSION,
        ),
    ),
    CaptionType(
        "midjourney",
        "MidJourney",
        (
            "Write a MidJourney prompt for this image.",
            "Write a MidJourney prompt for this image within {word_count} words.",
            "Write a {length} MidJourney prompt for this image.",
        ),
    ),
    CaptionType(
        "danbooru",
        "Danbooru tag list",
        (_DANBOORU, _DANBOORU + " {word_count} words or less.", _DANBOORU + " {length} length."),
    ),
    CaptionType(
        "e621",
        "e621 tag list",
        (
            "Write a " + _E621,
            "Write a " + _E621 + " Keep it under {word_count} words.",
            "Write a {length} " + _E621,
        ),
    ),
    CaptionType(
        "rule34",
        "Rule34 tag list",
        (
            "Write a " + _RULE34,
            "Write a " + _RULE34 + " Keep it under {word_count} words.",
            "Write a {length} " + _RULE34,
        ),
    ),
    CaptionType(
        "booru",
        "Booru-like tag list",
        (
            "Write a list of Booru-like tags for this image.",
            "Write a list of Booru-like tags for this image within {word_count} words.",
            "Write a {length} list of Booru-like tags for this image.",
        ),
    ),
    CaptionType(
        "art_critic",
        "Art Critic",
        (_ART_CRITIC, _ART_CRITIC + " Keep it within {word_count} words.", _ART_CRITIC + " Keep it {length}."),
    ),
    CaptionType(
        "product_listing",
        "Product Listing",
        (
            "Write a " + _PRODUCT_LISTING,
            "Write a " + _PRODUCT_LISTING + " Keep it under {word_count} words.",
            "Write a {length} " + _PRODUCT_LISTING,
        ),
    ),
    CaptionType(
        "social_media",
        "Social Media Post",
        (
            "Write a " + _SOCIAL_MEDIA,
            "Write a " + _SOCIAL_MEDIA + " Limit the caption to {word_count} words.",
            "Write a {length} " + _SOCIAL_MEDIA,
        ),
    ),
)

_EXTRAS = (  # id, label, sentence
    (
        "changeable_only",
        "Changeable traits only",
        "Do NOT include information about people/characters that cannot be changed (like ethnicity, gender, etc), but "
        "do still include changeable attributes (like hair style).",
    ),
    ("lighting", "Lighting", "Include information about lighting."),
    ("camera_angle", "Camera angle", "Include information about camera angle."),
    ("watermark", "Watermark or not", "Include information about whether there is a watermark or not."),
    (
        "jpeg_artifacts",
        "JPEG artifacts or not",
        "Include information about whether there are JPEG artifacts or not.",
    ),
    (
        "camera_details",
        "Camera details, for photos",
        "If it is a photo you MUST include information about what camera was likely used and details such as aperture, "
        "shutter speed, ISO, etc.",
    ),
    ("keep_pg", "Keep it PG", "Do NOT include anything sexual; keep it PG."),
    ("no_resolution", "No mention of resolution", "Do NOT mention the image's resolution."),
    (
        "aesthetic_quality",
        "Aesthetic quality",
        "You MUST include information about the subjective aesthetic quality of the image from low to very high.",
    ),
    (
        "composition",
        "Composition",
        "Include information on the image's composition style, such as leading lines, rule of thirds, or symmetry.",
    ),
    ("no_text", "No mention of text", "Do NOT mention any text that is in the image."),
    (
        "depth_of_field",
        "Depth of field",
        "Specify the depth of field and whether the background is in focus or blurred.",
    ),
    (
        "light_sources",
        "Natural or artificial light",
        "If applicable, mention the likely use of artificial or natural lighting sources.",
    ),
    ("no_ambiguity", "No ambiguous language", "Do NOT use any ambiguous language."),
    ("content_rating", "Sfw, suggestive or nsfw", "Include whether the image is sfw, suggestive, or nsfw."),
    (
        "important_only",
        "Only what is important",
        "ONLY describe the most important elements of the image.",
    ),
    (
        "no_artist_or_title",
        "No artist or title",
        "If it is a work of art, do not include the artist's name or the title of the work.",
    ),
    (
        "orientation",
        "Orientation and ratio",
        "Identify the image orientation (portrait, landscape, or square) and aspect ratio if obvious.",
    ),
    (
        "vulgar",
        "Vulgar slang and profanity",
        'Use vulgar slang and profanity, such as (but not limited to) "fucking," "slut," "cock," etc.',
    ),
    (
        "no_euphemisms",
        "Blunt, without euphemisms",
        "Do NOT use polite euphemisms—lean into blunt, casual phrasing.",
    ),
    (
        "ages",
        "Ages of people",
        "Include information about the ages of any people/characters when applicable.",
    ),
    (
        "shot_size",
        "Shot size",
        "Mention whether the image depicts an extreme close-up, close-up, medium close-up, medium shot, cowboy shot, "
        "medium wide shot, wide shot, or extreme wide shot.",
    ),
    ("no_mood", "No mention of mood", "Do not mention the mood/feeling/etc of the image."),
    (
        "vantage_height",
        "Vantage height",
        "Explicitly specify the vantage height (eye-level, low-angle worm\N{RIGHT SINGLE QUOTATION MARK}s-eye, "
        "bird\N{RIGHT SINGLE QUOTATION MARK}s-eye, drone, rooftop, etc.).",
    ),
    ("mention_watermark", "Must mention a watermark", "If there is a watermark, you must mention it."),
    (
        "no_meta_phrases",
        "No 'This image shows …'",
        "Your response will be used by a text-to-image model, so avoid useless meta phrases like “This image shows…”, "
        '"You are looking at...", etc.',
    ),
)

BETA_ONE = Catalog(
    model_id="fancyfeast/llama-joycaption-beta-one-hf-llava",
    types=MappingProxyType({kind.id: kind for kind in _TYPES}),
    formal=(
        "Write a descriptive caption for this image in a formal tone.",
        "Write a descriptive caption for this image in a formal tone within {word_count} words.",
        "Write a {length} descriptive caption for this image in a formal tone.",
    ),
    extras=MappingProxyType({id_: sentence for id_, _, sentence in _EXTRAS}),
    extra_labels=MappingProxyType({id_: label for id_, label, _ in _EXTRAS}),
    name_option="If there is a person/character in the image you must refer to them as {name}.",
    length_words=MappingProxyType({"very short": 20, "short": 40, "medium-length": 60, "long": 100, "very long": 200}),
    word_counts=tuple(range(20, 261, 10)),
    system_prompts=MappingProxyType(
        {
            "captioner": "You are a helpful image captioner.",
            "assistant": "You are a helpful assistant and help users with any queries they may have with no censorship "
            "or restrictions.",
        }
    ),
)

DEFAULT_SYSTEM_PROMPT = BETA_ONE.system_prompts["captioner"]
