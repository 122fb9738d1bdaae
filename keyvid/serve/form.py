"""The form of an order as OpenAPI describes it: fields, ranges, and the bundle's defaults."""

from dataclasses import fields
from typing import Any

from keyvid.bundle.manifest import Bundle
from keyvid.sampling import DEFAULT_QUALITY, Sampling, UNetSampling
from keyvid.serve.order import FIELDS

_KINDS = {int: "integer", float: "number", str: "string"}
MOST_SCALE = 8
_ALONE = "interpolator_"
_TIME = r"(\d{1,4}(\.\d{1,3})?|\d{1,3}:[0-5]\d(\.\d{1,3})?)"
_NUMBER = r"-?\d{1,6}(\.\d{1,6})?"
_SAYS: dict[str, dict[str, Any]] = {
    "prompt": {"maxLength": 2000, "default": ""},
    "seed": {"minimum": 0, "maximum": 2**63 - 1, "default": 0},
    "start": {"pattern": f"^{_TIME}$", "default": "0"},
    "length": {"pattern": f"^(full|{_TIME})$"},
    "track": {"minimum": 1},
    "fit": {"default": "crop"},
    "motion": {"pattern": f"^(auto|packaged|{_NUMBER}(,{_NUMBER})*)$", "default": "auto"},
    "end": {"enum": ["first"]},
    "beats": {"pattern": r"^\d{1,4}(\.\d{1,6})?(,\d{1,4}(\.\d{1,6})?)*$"},
    "position": {
        "pattern": r"^(centre|top|bottom|left|right|(0(\.\d{1,3})?|1),(0(\.\d{1,3})?|1))$",
        "default": "centre",
    },
    "scale": {"minimum": 1, "maximum": MOST_SCALE, "default": 1},
}
IMAGE = {"type": "string", "format": "binary", "description": "Any picture"}
WEBHOOK = {
    "type": "string",
    "maxLength": 2000,
    "pattern": "^https?://[^/]",
    "description": "Address to which a signed message is posted when the job has ended",
}
AUDIO = {"type": "string", "format": "binary", "description": "Any sound, or a video that has one"}


def form_schema(bundle: Bundle) -> dict[str, Any]:
    """The body of an order to /clips, for clips of that bundle."""
    return _form({"image": IMAGE, "audio": AUDIO}, fields_schema(bundle))


def video_form_schema(bundle: Bundle) -> dict[str, Any]:
    """The same of an order to /v1/videos."""
    ours = fields_schema(bundle)
    size = bundle.dimensions
    renamed = {
        "prompt": ours.pop("prompt"),
        "model": {"type": "string", "enum": [bundle.name]},
        "seconds": ours.pop("length"),
        "size": {
            "type": "string",
            "enum": [f"{size.width * n}x{size.height * n}" for n in range(1, MOST_SCALE + 1)],
        },
    }
    del ours["scale"]
    return _form({"input_reference": IMAGE, "audio_reference": AUDIO}, {**renamed, **ours})


def _form(files: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    schema = {
        "type": "object",
        "required": [*files],
        "properties": {**files, **fields, "webhook": WEBHOOK},
        "additionalProperties": False,
    }
    kinds = zip(files, ("image/png, image/*", "audio/wav, audio/*, video/*"), strict=True)
    encoding = {name: {"contentType": kind} for name, kind in kinds}
    content = {"multipart/form-data": {"schema": schema, "encoding": encoding}}
    return {"required": True, "content": content}


def fields_schema(bundle: Bundle) -> dict[str, Any]:
    """The fields of an order by their dashed names."""
    facts = _facts_of(bundle)
    return {
        option.dashed: {
            "type": _KINDS[option.kind],
            "description": option.help,
            **({"enum": list(option.choices)} if option.choices else {}),
            **_sampling_facts(option.name, bundle.sampling),
            **_SAYS.get(option.name, {}),
            **facts.get(option.name, {}),
        }
        for option in FIELDS
    }


def _facts_of(bundle: Bundle) -> dict[str, dict[str, Any]]:
    """What depends on the bundle otherwise than by its sampling."""
    rest = bundle.dimensions.keyframes - 1
    branches = set(bundle.branches("generator")) & set(bundle.branches("interpolator"))
    return {
        "quality": {
            "enum": [*(bundle.qualities or {}), DEFAULT_QUALITY],
            "default": DEFAULT_QUALITY,
        },
        "keyframes": {"pattern": rf"^(auto|uniform|0(,\d{{1,5}}){{{rest}}})$", "default": "auto"},
        "cfg_batch": {"enum": sorted(branches)},
    }


def _sampling_facts(name: str, sampling: Sampling) -> dict[str, Any]:
    """Range and default of a setting of the sampling; nothing for other fields."""
    unet = sampling.interpolator if name.startswith(_ALONE) else sampling.generator
    for part, kind in ((unet, UNetSampling), (sampling, Sampling)):
        for setting in fields(kind):
            if setting.metadata and setting.name == name.removeprefix(_ALONE):
                ends = zip(("minimum", "maximum"), setting.metadata["range"], strict=True)
                finite = {end: value for end, value in ends if abs(value) < float("inf")}
                return {**finite, "default": getattr(part, setting.name)}
    return {}
