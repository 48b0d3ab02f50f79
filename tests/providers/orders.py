"""What AssemblyAI's calls may say, field by field (https://www.assemblyai.com/docs/api-reference/transcripts/submit): what is
unknown or of another kind is refused, where the real one might overlook it."""

import datetime
import json
import urllib.parse

from fake import Refusal

MODELS = ["assemblyai-stt-3-7", "universal-3-5-pro", "universal-3-pro", "universal-2"]
LANGUAGES = set(
    "en en_au en_uk en_us es fr de de_ch it pt nl af sq am ar hy as az ba eu be bn bs br bg my ca zh hr cs da et fo fi gl ka el "
    "gu ht ha haw he hi hu is id ja jw kn kk km ko lo la lv ln lt lb mk mg ms ml mt mi mr mn ne no nn oc pa ps fa pl ro ru sa "
    "sr sn sd si sk sl so su sw sv tl tg ta tt te th bo tr tk uk ur uz vi cy yi yo".split()
)
POLICIES = set(
    "account_number banking_information blood_type credit_card_cvv credit_card_expiration credit_card_number date date_interval "
    "date_of_birth drivers_license drug duration email_address event filename gender_sexuality healthcare_number injury "
    "ip_address language location marital_status medical_condition medical_process money_amount nationality number_sequence "
    "occupation organization passport_number password person_age person_name phone_number physical_attribute "
    "political_affiliation religion statistics time url us_social_security_number username vehicle_id zodiac_sign".split()
)
STATUSES = {"queued", "processing", "completed", "error"}
KEYTERM_WORDS_MAX = 6


def no(message):
    return Refusal(400, "invalid", message)


def is_url(value):
    where = urllib.parse.urlsplit(value) if isinstance(value, str) else None
    return bool(where and where.scheme in ("http", "https") and where.hostname)


def is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_texts(value):
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def is_bool(value):
    return isinstance(value, bool)


def is_text(value):
    return isinstance(value, str)


def is_object(value):
    return isinstance(value, dict)


def is_count(value):
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


FIELDS = {
    "audio_url": is_url,
    "webhook_url": is_url,
    "webhook_auth_header_name": is_text,
    "webhook_auth_header_value": is_text,
    "speech_models": lambda value: is_texts(value) and value,
    "speech_model": is_text,
    "language_code": is_text,
    "language_codes": is_texts,
    "language_detection": is_bool,
    "language_detection_options": is_object,
    "language_confidence_threshold": lambda value: is_number(value) and 0 <= value <= 1,
    "keyterms_prompt": is_texts,
    "keyterms_prompt_options": is_object,
    "prompt": is_text,
    "temperature": lambda value: is_number(value) and 0 <= value <= 1,
    "speaker_labels": is_bool,
    "speakers_expected": is_count,
    "speaker_options": is_object,
    "redact_pii": is_bool,
    "redact_pii_policies": lambda value: is_texts(value) and value and set(value) <= POLICIES,
    "redact_pii_sub": lambda value: value in ("hash", "entity_name"),
    "redact_pii_return_unredacted": is_bool,
    "audio_start_from": is_count,
    "audio_end_at": is_count,
    "speech_threshold": lambda value: is_number(value) and 0 <= value <= 1,
    "custom_spelling": lambda value: isinstance(value, list),
    "domain": is_text,
    **dict.fromkeys(["punctuate", "format_text", "disfluencies", "multichannel", "filter_profanity"], is_bool),
}


def read(body):
    """The order in the body of a submission."""
    try:
        order = json.loads(body, object_pairs_hook=once, parse_constant=lambda name: json.loads("x"))
    except (ValueError, UnicodeDecodeError):
        raise no("Request body is no valid JSON") from None
    if not isinstance(order, dict):
        raise no("Request body must be a JSON object")
    unknown = sorted(set(order) - set(FIELDS))
    if unknown:
        raise no(f"Invalid endpoint schema, please refer to documentation for examples. Unknown: {', '.join(unknown)}")
    if "audio_url" not in order:
        raise no("Missing \"audio_url\"")
    for name, value in order.items():
        if name != "speech_models" and not FIELDS[name](value):
            raise no(f"\"{name}\" is not what it must be")
    check(order)
    return order


def once(pairs):
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("a field is given twice")
    return fields


def check(order):
    """What fields must be to each other."""
    models = order.get("speech_models", ["universal-3-5-pro", "universal-2"])
    if not is_texts(models) or not models or not set(models) <= set(MODELS):
        known = ", ".join(f'"{name}"' for name in MODELS)
        raise no(f'"speech_models" must be a non-empty list containing one or more of: {known}')
    code = order.get("language_code")
    if code is not None and code not in LANGUAGES:
        raise no(f"Invalid language_code: {code} is not supported")
    if code is not None and order.get("language_detection"):
        raise no("Both language_detection and language_code are set; give one of them")
    if order.get("redact_pii") and not order.get("redact_pii_policies"):
        raise no("\"redact_pii\" needs \"redact_pii_policies\"")
    if not order.get("redact_pii") and ("redact_pii_policies" in order or "redact_pii_sub" in order):
        raise no("\"redact_pii_policies\" and \"redact_pii_sub\" need \"redact_pii\"")
    terms = order.get("keyterms_prompt", [])
    if len(terms) > (200 if "universal-2" in models else 1_000):
        raise no("\"keyterms_prompt\" has too many terms")
    if any(not 1 <= len(term.split()) <= KEYTERM_WORDS_MAX for term in terms):
        raise no(f"\"keyterms_prompt\" has a term that is empty or of more than {KEYTERM_WORDS_MAX} words")
    if "keyterms_prompt" in order and "prompt" in order and models[0] == "universal-3-pro":
        raise no("\"prompt\" and \"keyterms_prompt\" cannot be used together")


def query(pairs):
    """What the list is asked for."""
    wanted = dict(pairs)
    unknown = set(wanted) - {"limit", "status", "created_on", "before_id", "after_id", "throttled_only"}
    if unknown or len(wanted) < len(pairs):
        raise no(f"Unknown or repeated parameters: {sorted(unknown)}")
    if "limit" in wanted:
        if not wanted["limit"].isdecimal() or not 1 <= int(wanted["limit"]) <= 200:
            raise no("\"limit\" must be between 1 and 200")
        wanted["limit"] = int(wanted["limit"])
    if wanted.get("status", "queued") not in STATUSES:
        raise no("\"status\" is none")
    try:
        datetime.date.fromisoformat(wanted.get("created_on", "2026-01-01"))
    except ValueError:
        raise no("\"created_on\" must be a date, YYYY-MM-DD") from None
    return wanted
