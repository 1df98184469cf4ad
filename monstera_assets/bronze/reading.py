"""Convert raw source values to declared types (framework, section 2).

Unreadable values become null. Rules and faults detect unreadable values by comparing the converted
values with the raw values.
"""

# mypy: disable-error-code="untyped-decorator, empty-body"

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from monstera_assets.bronze.local_time import local_date, local_midnight

SUBSCRIPTION_TIERS = ("trial", "starter", "professional", "enterprise")
NULL_WORDS = ("NULL", "\\N", "null", "None", "NaN", "NaT")

_DAY = r"^\d{4}-\d{2}-\d{2}$"
_MIDNIGHT = r"^\d{4}-\d{2}-\d{2}([T ]00:00(:00(\.0*)?)?)?$"
_TIME = r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}([.,]\d+)?)?"
_OFFSET = r"[+-]\d{2}(:?\d{2})?"
_MOMENT = rf"^{_TIME}(Z|{_OFFSET})?$".replace("[.,]", "[.]")
_ODD_MOMENT = rf"^{_TIME} ?(Z|UTC|GMT|{_OFFSET})?$"
_ZULU = r" ?(Z|UTC|GMT)$"
_SPACE_BEFORE_OFFSET = r" ([+-])"
_EPOCH = r"^\d{9,19}(\.0)?$"
# In JSON text, an address may contain escaped characters and may follow an escape such as \n.
_ESCAPED = r"\\u[0-9a-fA-F]{4}"
_LOCAL = rf"(?:[\pL\pN._%+'-]|{_ESCAPED})+"
_LABEL = rf"(?:[\pL\pN-]|{_ESCAPED})+"
_EMAIL = rf"((?:\\[^u])*){_LOCAL}(?:@|\\+u0040){_LABEL}(?:\.{_LABEL})+"


@ibis.udf.scalar.builtin(name="make_timestamp", signature=(("int64",), "timestamp"))
def _of_microseconds(microseconds: int) -> object: ...


@ibis.udf.scalar.builtin(name="divide", signature=(("int64", "int64"), "int64"))
def _whole_quotient(dividend: int, divisor: int) -> int: ...


@ibis.udf.scalar.builtin(name="suffix", signature=(("string", "string"), "boolean"))
def _ends_with(text: str, end: str) -> bool: ...


@ibis.udf.scalar.builtin(name="strlen", signature=(("string",), "int64"))
def _bytes(text: str) -> int: ...


@dataclass(frozen=True)
class Reading:
    """Rules for reading values.

    Args:
        earliest: the earliest accepted date.
        timezone: the IANA name of the time zone that defines calendar days.
        first_day: the first partition.
        null_words: values that are read as null, in addition to empty strings.
        tiers: the known subscription tiers, from lowest to highest.
        delimiter: the delimiter in CSV files, or None to detect each file's delimiter.
    """

    earliest: date = date(1990, 1, 1)
    timezone: str = "UTC"
    first_day: date = date(1990, 1, 1)
    null_words: tuple[str, ...] = NULL_WORDS
    tiers: tuple[str, ...] = SUBSCRIPTION_TIERS
    delimiter: str | None = None

    def text(self, raw: ir.Value) -> ir.StringValue:
        """Return a raw value as text, or null if the value is empty or a null word."""
        if raw.type().is_floating():
            raw = ibis.ifelse(raw.isnan(), None, raw)
        text = raw.cast("string")
        if not (raw.type().is_string() or raw.type().is_json()):
            return text
        words = ["", *self.null_words]
        # The comparison is expensive, so it is limited to text that could be a null word.
        longest = max(len(word.encode()) for word in words)
        possible = (_bytes(text) <= longest) | _ends_with(text, " ") | (text < "!")
        return ibis.ifelse(possible & text.strip().isin(words), None, text)

    def value(self, raw: ir.Value, dtype: dt.DataType) -> ir.Value:
        """Convert a value to a type, or an invalid value to null. Strings must come from `text`."""
        dtype = dtype.copy(nullable=True)
        if dtype.is_string():
            return raw.cast("string")
        if raw.type().is_string():
            raw = raw.strip()
        if dtype.is_timestamp():
            return self._timestamp(raw)
        if dtype.is_date():
            return self._date(raw)
        if dtype.is_boolean() and raw.type().is_string():
            return raw.re_replace(r"^([01])\.0$", r"\1").try_cast(dtype)
        if dtype.is_integer() and not raw.type().is_integer():
            # DuckDB would round 3.7 seats to 4. NaN and infinity do not have a remainder.
            is_whole = raw.try_cast("float64") % 1 == 0
            return ibis.ifelse(is_whole, raw.try_cast("decimal(38, 6)").try_cast(dtype), None)
        return raw.try_cast(dtype)

    def local_date(self, moment: ir.TimestampValue) -> ir.DateValue:
        """Return the calendar day that contains a UTC time in the configured time zone."""
        return local_date(moment, self.timezone)

    def local_midnight(self, day: ir.DateValue) -> ir.TimestampValue:
        """Return the UTC time at which a calendar day starts in the configured time zone."""
        return local_midnight(day, self.timezone)

    @property
    def first_moment(self) -> ir.TimestampValue:
        """The UTC time at which the first partition starts."""
        return self.local_midnight(ibis.literal(self.first_day))

    def trusted_date(self, moment: ir.TimestampValue) -> ir.DateValue:
        """Return a UTC time's local date, or null if the time is null or before `earliest`."""
        day = self.local_date(moment)
        return ibis.ifelse(day >= self.earliest, day, None)

    def metadata(self, text: ir.StringValue) -> ir.StringValue:
        """Replace null words in metadata with null, and email addresses with `[email]`."""
        words = "|".join(_escaped(word) for word in self.null_words)
        text = text.re_replace(rf'(:\s*)"\s*({words}|)\s*"', r"\1null")
        return ibis.ifelse(has_at_sign(text), without_addresses(text), text)

    def _timestamp(self, raw: ir.Value) -> ir.TimestampValue:
        dtype = raw.type()
        if dtype.is_date():
            return _finite(self.local_midnight(_finite(raw)))
        if dtype.is_timestamp():
            moment = raw.cast("timestamp('UTC')") if dtype.timezone else raw
            return _finite(moment.cast("timestamp"))
        if dtype.is_numeric():
            return _finite(_of_epoch(raw))
        text = raw.cast("string")
        odd = (
            text.re_replace(_ZULU, "+00").re_replace(_SPACE_BEFORE_OFFSET, r"\1").replace(",", ".")
        )
        return _finite(
            ibis.cases(
                (text.re_search(_MOMENT), _moment(text)),
                (text.re_search(_DAY), self.local_midnight(text.try_cast("date"))),
                (text.re_search(_EPOCH), _of_epoch(text)),
                (text.re_search(_ODD_MOMENT), _moment(odd)),
            )
        )

    def _date(self, raw: ir.Value) -> ir.DateValue:
        dtype = raw.type()
        if dtype.is_date():
            return _finite(raw)
        moment = self._timestamp(raw)
        # A midnight time without an offset represents a date.
        if dtype.is_string():
            is_date, written = raw.re_search(_MIDNIGHT), raw.substr(0, 10).try_cast("date")
        elif dtype.is_timestamp() and not dtype.timezone:
            is_date, written = moment == moment.truncate("D"), moment.date()
        else:
            return self.local_date(moment)
        return _finite(ibis.ifelse(is_date, written, self.local_date(moment)))


def _moment(text: ir.StringValue) -> ir.TimestampValue:
    # The connection's time zone is UTC.
    return text.try_cast("timestamp('UTC')").cast("timestamp")


def has_at_sign(text: ir.StringValue) -> ir.BooleanValue:
    """Return whether JSON text contains an at sign, which may be escaped."""
    return text.contains("@") | text.contains("\\u0040")


def without_addresses(text: ir.StringValue) -> ir.StringValue:
    """Replace email addresses in JSON text with `[email]`."""
    return text.re_replace(_EMAIL, r"\1[email]")


def _of_epoch(raw: ir.Value) -> ir.TimestampValue:
    """Convert a Unix epoch value to a UTC time. The number of digits determines the unit.

    Values with 9 or 10 digits are in seconds, values with 12 or 13 digits in milliseconds, values with
    15 or 16 digits in microseconds, and values with 18 or 19 digits in nanoseconds.
    """
    if raw.type().is_string():
        raw = raw.re_replace(r"\.0$", "")
    number = raw.try_cast("int64")
    if raw.type().is_floating() or raw.type().is_decimal():
        number = ibis.ifelse(raw % 1 == 0, number, None)

    def digits(low: int) -> ir.BooleanValue:
        return number.between(10 ** (low - 1), min(10 ** (low + 1), 2**63) - 1)

    return _of_microseconds(
        ibis.cases(
            (digits(9), number * 1_000_000),
            (digits(12), number * 1_000),
            (digits(15), number),
            (digits(18), _whole_quotient(number, 1_000)),
        )
    )


def _finite(value: ir.Value) -> ir.Value:
    # DuckDB also accepts 'infinity' and years outside the range from 1 through 9999.
    return ibis.ifelse(value.year().between(1, 9999), value, None)


def _escaped(word: str) -> str:
    """Return a regular expression that matches a null word in JSON text."""
    text = word.replace("\\", "\\\\")
    return "".join(character if character.isalnum() else f"\\{character}" for character in text)
