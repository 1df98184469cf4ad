"""Convert raw source values to declared types (framework, section 2).

Unreadable values become null. Rules and faults detect unreadable values by comparing the converted
values with the raw values.
"""

# mypy: disable-error-code="untyped-decorator, empty-body"

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from monstera_assets.bronze.local_time import local_date, local_midnight
from monstera_assets.lifecycle.expressions import parameter

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


Step = Callable[[ir.Value, ir.Value], ir.Value]
"""Returns the next value, given the value so far (at first the raw value) and the raw value."""


FIRST_DAY = "first_partition"
"""The query parameter for the first partition."""


def first_partition() -> ir.DateScalar:
    """Return the first partition."""
    return parameter(FIRST_DAY, "date")


@dataclass(frozen=True)
class Reading:
    """Rules for reading values.

    Args:
        earliest: the earliest accepted date.
        timezone: the IANA name of the time zone that defines calendar days.
        first_day: the first partition. Queries read it from the parameter `FIRST_DAY`, so that sources
            with different first days have the same queries.
        null_words: values that are read as null, in addition to empty strings.
        tiers: the known subscription tiers, from lowest to highest.
        delimiter: the delimiter in CSV files, or None to detect each file's delimiter.
    """

    earliest: date = date(1990, 1, 1)
    timezone: str = "UTC"
    first_day: date = field(default=date(1990, 1, 1), repr=False)  # `repr` is the key of queries
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
        value = raw
        for step in self.steps(raw.type(), dtype):
            value = step(value, raw)
        return value

    def steps(self, given: dt.DataType, dtype: dt.DataType) -> list[Step]:
        """Return the steps that convert a value from one type to another (see `value`).

        A step may use the value several times. If each step's result is a column, the SQL of the value
        is not repeated.
        """
        dtype = dtype.copy(nullable=True)
        if dtype.is_timestamp():
            return self._to_timestamp(given)
        if dtype.is_date():
            return self._to_date(given)
        return [lambda raw, _: self._plain(raw, dtype)]

    def _plain(self, raw: ir.Value, dtype: dt.DataType) -> ir.Value:
        if dtype.is_string():
            return raw.cast("string")
        raw = _stripped(raw)
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
        return self.local_midnight(first_partition())

    def trusted_date(self, moment: ir.TimestampValue) -> ir.DateValue:
        """Return a UTC time's local date, or null if the time is null or before `earliest`."""
        day = self.local_date(moment)
        return ibis.ifelse(day >= self.earliest, day, None)

    def metadata(self, text: ir.StringValue) -> ir.StringValue:
        """Replace null words in metadata with null, and email addresses with `[email]`."""
        words = "|".join(_escaped(word) for word in self.null_words)
        text = text.re_replace(rf'(:\s*)"\s*({words}|)\s*"', r"\1null")
        return ibis.ifelse(has_at_sign(text), without_addresses(text), text)

    def _to_timestamp(self, given: dt.DataType) -> list[Step]:
        if given.is_date():
            return [_finite, lambda day, _: self.local_midnight(day), _finite]
        if given.is_timestamp():
            zone = "timestamp('UTC')" if given.timezone else "timestamp"
            return [lambda raw, _: raw.cast(zone).cast("timestamp"), _finite]
        if given.is_numeric():
            return [lambda raw, _: _of_epoch(raw), _finite]
        return [lambda raw, _: self._written(_stripped(raw).cast("string")), _finite]

    def _written(self, text: ir.StringValue) -> ir.TimestampValue:
        odd = (
            text.re_replace(_ZULU, "+00").re_replace(_SPACE_BEFORE_OFFSET, r"\1").replace(",", ".")
        )
        return ibis.cases(
            (text.re_search(_MOMENT), _moment(text)),
            (text.re_search(_DAY), self.local_midnight(text.try_cast("date"))),
            (text.re_search(_EPOCH), _of_epoch(text)),
            (text.re_search(_ODD_MOMENT), _moment(odd)),
        )

    def _to_date(self, given: dt.DataType) -> list[Step]:
        if given.is_date():
            return [_finite]
        to_moment = self._to_timestamp(given)
        if not (given.is_string() or (given.is_timestamp() and not given.timezone)):
            return [*to_moment, lambda moment, _: self.local_date(moment)]

        def day(moment: ir.TimestampValue, raw: ir.Value) -> ir.DateValue:
            # A midnight time without an offset represents a date.
            if given.is_string():
                text = raw.strip()
                is_date, written = text.re_search(_MIDNIGHT), text.substr(0, 10).try_cast("date")
            else:
                is_date, written = moment == moment.truncate("D"), moment.date()
            return ibis.ifelse(is_date, written, self.local_date(moment))

        return [*to_moment, day, _finite]


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


def _stripped(raw: ir.Value) -> ir.Value:
    return raw.strip() if raw.type().is_string() else raw


def _finite(value: ir.Value, _: ir.Value) -> ir.Value:
    # DuckDB also accepts 'infinity' and years outside the range from 1 through 9999.
    return ibis.ifelse(value.year().between(1, 9999), value, None)


def _escaped(word: str) -> str:
    """Return a regular expression that matches a null word in JSON text."""
    text = word.replace("\\", "\\\\")
    return "".join(character if character.isalnum() else f"\\{character}" for character in text)
