"""The declarative base, column types in use, and CHECKs that are built from the enums."""

import datetime as dt
import enum
from typing import Annotated, Any, ClassVar

from sqlalchemy import BigInteger, CheckConstraint, DateTime, MetaData, Text, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, mapped_column

Timestamp = Annotated[dt.datetime, mapped_column(DateTime(timezone=True))]
CreatedAt = Annotated[dt.datetime, mapped_column(DateTime(timezone=True), server_default=func.now())]
Bytes = Annotated[int, mapped_column(BigInteger)]
Json = Annotated[dict[str, Any], mapped_column(JSONB(none_as_null=True))]
JsonList = Annotated[list[dict[str, Any]], mapped_column(JSONB())]
PrimaryId = Annotated[str, mapped_column(Text, primary_key=True)]


class Base(DeclarativeBase):
    """The base of every table; constraints get predictable names, so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {str: Text}


def one_of(column: str, values: type[enum.StrEnum] | list[str]) -> CheckConstraint:
    """Return a CHECK that ``column`` holds one of ``values``."""
    return CheckConstraint(f"{column} IN ({sql_list(values)})", name=f"{column}_known")


def sql_list(values: type[enum.StrEnum] | list[str]) -> str:
    """Return ``values`` as the inside of an SQL list. Only for names written in this program."""
    return ", ".join(f"'{value}'" for value in values)
