"""Addresses of buckets are told from paths."""

import re

import pytest

from speedpaper_jax.errors import UserError
from speedpaper_jax.files import addresses


@pytest.mark.parametrize("value", ["gs://bucket", "gs://bucket/run", "s3://b/x", "hdfs://host/x"])
def test_an_address_is_refused_with_what_to_do(value):
  message = f"'{value}' is in a bucket, where nothing is read or written in place; copy it"
  with pytest.raises(UserError, match=f"^{re.escape(message)}"):
    addresses.refuse(value)


@pytest.mark.parametrize("value", ["", "x", "gs:/x", "/mnt/gs://x", "./gs://x", "https://x.org/a"])
def test_other_values_are_not(value):
  addresses.refuse(value)
