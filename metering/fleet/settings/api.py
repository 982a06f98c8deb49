"""What the settings of the HTTP API must be like together."""

from __future__ import annotations

import re
from typing import Literal

ApiFront = Literal["http", "url"]

# An HTTP API gives up after 30 s (API Gateway quotas), and the function should say so itself before.
API_TIMEOUT_MAX_S = 29
REGION_MARK = "{region}"
"""Stands for the region's name in `api_domain`: one name in two regions would lead to one of them only."""

# The mark as it is replaced to judge the name: a region's name is made of the same characters.
_HOST = re.compile(r"^(?=.{4,200}$)([a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?\.)+[a-z]{2,40}$")


def problem_of_api(*, front: ApiFront, emulated: bool, domain: str, zone: str) -> str | None:
    """What keeps the settings of the API from being deployed; None if nothing does."""
    if front == "url" and not emulated:
        return "api_front may be url on emulated stages only: the URL of a function has no throttle and no access log"
    if bool(domain) != bool(zone):
        return "api_domain and api_zone_id belong together: the hosted zone proves who owns the name"
    if domain and front == "url":
        return "api_domain needs api_front http: the URL of a function cannot have another name"
    if domain and (domain.count(REGION_MARK) != 1 or not _HOST.match(domain.replace(REGION_MARK, "eu-west-1"))):
        return f"api_domain is a host name with {REGION_MARK} in it, such as usage.{REGION_MARK}.example.com"
    return None


def domain_in(domain: str, region: str) -> str:
    """The host name of the API in a region."""
    return domain.replace(REGION_MARK, region)
