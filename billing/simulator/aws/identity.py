"""STS: who calls, and roles to assume. Everybody may assume every role here; a role belongs to its account.

Only what an app asks before it calls the Marketplace: GetCallerIdentity and AssumeRole.
"""

from __future__ import annotations

import re
from datetime import timedelta

from billing.simulator.aws.call import Call
from billing.simulator.aws.shapes import Json, Structure, Text, parse
from billing.simulator.clock import iso
from billing.simulator.errors import AwsError
from billing.simulator.records import SELLER_ACCOUNT_ID
from billing.simulator.state import State

FOREIGN_ACCOUNT_ID = "999999999999"
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::(?P<account>\d{12}):role/(?P<name>[\w+=,.@/-]+)")
_ASSUMED_KEY = re.compile(r"ASIA(?P<account>\d{12})SIM")
_ASSUME_ROLE = Structure(
    {
        "RoleArn": Text(min=20, max=2048),
        "RoleSessionName": Text(min=2, max=64),
        "ExternalId": Text(min=2, max=1224),
        "DurationSeconds": Text(),
    },
    required=("RoleArn", "RoleSessionName"),
)


def get_caller_identity(state: State, body: Json, call: Call) -> Json:
    assumed = _ASSUMED_KEY.fullmatch(call.access_key)
    if assumed:
        account, who = assumed["account"], "assumed-role/simulated/marketplace-saas"
    else:
        with state.lock:
            foreign = call.access_key in state.switches.foreign_access_keys
        account, who = (FOREIGN_ACCOUNT_ID if foreign else SELLER_ACCOUNT_ID), "user/simulated"
    arn = f"arn:aws:{'sts' if assumed else 'iam'}::{account}:{who}"
    return {
        "GetCallerIdentityResponse": {
            "GetCallerIdentityResult": {"Arn": arn, "UserId": "AIDASIMULATED", "Account": account}
        }
    }


def assume_role(state: State, body: Json, call: Call) -> Json:
    request = parse(_ASSUME_ROLE, body)
    role = _ROLE.fullmatch(request["RoleArn"])
    if role is None:
        raise AwsError("ValidationError", f"{request['RoleArn']} is invalid")
    session = request["RoleSessionName"]
    with state.lock:
        # SDKs compare it with their own clock, whatever time it is here.
        expires_at = state.clock.real_now() + timedelta(hours=1)
    return {
        "AssumeRoleResponse": {
            "AssumeRoleResult": {
                "Credentials": {
                    "AccessKeyId": f"ASIA{role['account']}SIM",
                    "SecretAccessKey": "simulated",
                    "SessionToken": "simulated",
                    "Expiration": iso(expires_at),
                },
                "AssumedRoleUser": {
                    "AssumedRoleId": f"AROASIMULATED:{session}",
                    "Arn": f"arn:aws:sts::{role['account']}:assumed-role/{role['name']}/{session}",
                },
            }
        }
    }
