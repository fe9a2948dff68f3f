"""The planted faults of the payouts: what is broken, and which tests must notice."""

from __future__ import annotations

from tests.mutants.faults import Fault

__all__ = ["PAYOUT_FAULTS"]

RESERVE = ("tests/unit/payouts/test_reserve.py",)
DISPATCH = ("tests/unit/payouts/test_dispatch.py",)
ATTEMPT = ("tests/unit/payouts/test_attempt.py",)
REGISTER = ("tests/unit/payouts/test_register.py",)
RECONCILE = ("tests/unit/payouts/test_reconcile.py",)
CONTRACT = ("tests/contract/test_payouts.py",)
ON_POSTGRESQL = ("tests/conformance/test_payouts.py",)

CAMPAIGN = ("tests/chaos/test_payouts_campaign.py",)

PAYOUT_FAULTS = (
    Fault(
        "payout-without-a-unique-key",
        "streams/storage/migrations/versions/0003_payouts.py",
        '        sa.UniqueConstraint("period", "worker_id", "seq", name=op.f("uq_payout_period_worker_id_seq")),\n',
        "",
        RESERVE,
    ),
    Fault(
        "claim-passes-over-locked-accounts",
        "streams/payouts/shards.py",
        "        .limit(at_most)\n        .with_for_update()",
        "        .limit(at_most)\n        .with_for_update(skip_locked=True)",
        ON_POSTGRESQL,
    ),
    Fault(
        "another-idempotency-key-at-every-call",
        "streams/payouts/http_bank.py",
        '"Idempotency-Key": payment.payout_id',
        '"Idempotency-Key": f"{payment.payout_id}-{id(payment)}-{asyncio.get_running_loop().time()}"',
        CAMPAIGN,
    ),
    Fault(
        "payout-fence-not-checked",
        "streams/payouts/shards.py",
        "if row.fence != shard.fence or row.finished_at_ms is not None:",
        "if row.finished_at_ms is not None:",
        RESERVE,
    ),
    Fault(
        "payout-sets-the-balance-to-nothing",
        "streams/payouts/shards.py",
        'balance_minor=ledger_account.c.balance_minor - bindparam("amount_minor"),',
        'balance_minor=bindparam("amount_minor") - bindparam("amount_minor"),',
        RESERVE,
    ),
    Fault(
        "payout-id-at-random",
        "streams/payouts/domain.py",
        '    return str(uuid5(PAYOUTS, f"{period.isoformat()}:{worker_id}:{seq}"))\n',
        "    from uuid import uuid4\n\n    return str(uuid4())\n",
        RESERVE,
    ),
    Fault(
        "answer-of-an-older-claim-counts",
        "streams/payouts/dispatch.py",
        " and now.attempts == claimed.attempts",
        "",
        DISPATCH,
    ),
    Fault(
        "answer-after-the-decision-counts",
        "streams/payouts/dispatch.py",
        "now is not None and now.state is PayoutState.SENDING and now.attempts == claimed.attempts",
        "now is not None",
        DISPATCH,
    ),
    Fault(
        "time-out-is-a-failure",
        "streams/payouts/attempt.py",
        '            return Unanswered(f"{cause.value} {detail}".rstrip())\n        case _:',
        "            return Failed(cause.value)\n        case _:",
        (*ATTEMPT, *DISPATCH),
    ),
    Fault(
        "bank-not-asked-before-an-old-key",
        "streams/payouts/attempt.py",
        "if life.must_ask(payout, now_ms) else None",
        "if life.seconds < 0 else None",
        ATTEMPT,
    ),
    Fault(
        "payout-posted-into-the-open-period",
        "streams/payouts/reserve.py",
        "                payout_id=payout.payout_id,\n                period=run.period,\n",
        "                payout_id=payout.payout_id,\n",
        RESERVE,
    ),
    Fault(
        "bank-called-inside-the-transaction",
        "streams/payouts/dispatch.py",
        "            claimed = await claim_due(connection, self._holder, at_most, "
        "now_ms, round(LEASE_SECONDS * 1000))\n",
        "            claimed = await claim_due(connection, self._holder, at_most, "
        "now_ms, round(LEASE_SECONDS * 1000))\n"
        "            for one in claimed:\n"
        "                await attempt(self._bank, one, self._life, now_ms)\n",
        DISPATCH,
    ),
    Fault(
        "died-while-sending-is-forgotten",
        "streams/payouts/outcomes.py",
        "unanswered=payout.c.unanswered + was_being_sent,",
        "unanswered=payout.c.unanswered,",
        DISPATCH,
    ),
    Fault(
        "run-overtakes-the-one-before",
        "streams/payouts/runs.py",
        "return waiting[0] if waiting else None",
        "return waiting[-1] if waiting else None",
        RESERVE,
    ),
    Fault(
        "run-of-an-earlier-day-registered",
        "streams/payouts/domain.py",
        "if latest is not None and period <= latest:",
        "if latest is not None and period < date.min:",
        REGISTER,
    ),
    Fault(
        "reissue-posted-into-another-period",
        "streams/payouts/domain.py",
        "        payout_id=again.payout_id,\n        period=payout.reversal_period,\n",
        "        payout_id=again.payout_id,\n",
        CONTRACT,
    ),
    Fault(
        "return-taken-from-clearing",
        "streams/payouts/outcomes.py",
        "house_account=CLEARING if reversal.failed else BANK,",
        "house_account=CLEARING,",
        RECONCILE,
    ),
    Fault(
        "poison-account-stops-the-run",
        "streams/payouts/reserve.py",
        "                await self._set_aside(shard, error)\n",
        "                raise\n",
        RESERVE,
    ),
    Fault(
        "ids-depend-on-the-trigger",
        "streams/payouts/domain.py",
        "        return derived_id(self.anchor_ms, SOURCE, self.payout_id, name)",
        "        return derived_id(self.origin.time_ms, SOURCE, self.payout_id, name)",
        RESERVE,
    ),
    Fault(
        "later-postings-are-paid",
        "streams/payouts/shards.py",
        "func.coalesce(_LATER, 0)",
        "func.coalesce(_LATER, 0) * 0",
        RESERVE,
    ),
    Fault(
        "day-not-over-is-paid",
        "streams/payouts/domain.py",
        "    if period >= calendar.date_of(now_ms):",
        "    if period > calendar.date_of(now_ms):",
        REGISTER,
    ),
    Fault(
        "not-called-spends-an-attempt",
        "streams/payouts/dispatch.py",
        "later.append(Later(payout, now_ms + round(wait * 1000), answered=True, note=detail))",
        "later.append(Later(payout, now_ms + round(wait * 1000), answered=False, note=detail))",
        DISPATCH,
    ),
    Fault(
        "locked-and-summed-in-one-statement",
        "streams/payouts/shards.py",
        "        .limit(at_most)\n"
        "        .with_for_update()\n"
        "    )\n"
        "    return [row[0] for row in rows]\n"
        "\n"
        "\n"
        "_LATER = (\n"
        "    select(func.sum(ledger_transfer.c.signed_minor))\n"
        "    .where(ledger_transfer.c.worker_id == ledger_account.c.worker_id, "
        'ledger_transfer.c.period > bindparam("of_period"))\n'
        "    .scalar_subquery()\n"
        ")\n"
        "_OWED = (\n"
        "    select(\n"
        "        ledger_account.c.worker_id,\n"
        "        ledger_account.c.balance_minor,\n"
        "        ledger_account.c.version,\n"
        '        cast(ledger_account.c.balance_minor - func.coalesce(_LATER, 0), BigInteger).label("closing_minor"),\n'
        "    )\n"
        '    .where(ledger_account.c.worker_id > bindparam("after"), ledger_account.c.worker_id <= bindparam("last"))\n'
        "    .order_by(ledger_account.c.worker_id)\n"
        ")",
        "        .limit(at_most)\n"
        "    )\n"
        "    return [row[0] for row in rows]\n"
        "\n"
        "\n"
        "_LATER = (\n"
        "    select(func.sum(ledger_transfer.c.signed_minor))\n"
        "    .where(ledger_transfer.c.worker_id == ledger_account.c.worker_id, "
        'ledger_transfer.c.period > bindparam("of_period"))\n'
        "    .scalar_subquery()\n"
        ")\n"
        "_OWED = (\n"
        "    select(\n"
        "        ledger_account.c.worker_id,\n"
        "        ledger_account.c.balance_minor,\n"
        "        ledger_account.c.version,\n"
        '        cast(ledger_account.c.balance_minor - func.coalesce(_LATER, 0), BigInteger).label("closing_minor"),\n'
        "    )\n"
        '    .where(ledger_account.c.worker_id > bindparam("after"), ledger_account.c.worker_id <= bindparam("last"))\n'
        "    .order_by(ledger_account.c.worker_id)\n"
        "    .with_for_update(of=ledger_account)\n"
        ")",
        ON_POSTGRESQL,
    ),
    Fault(
        "accounts-not-locked",
        "streams/payouts/shards.py",
        "        .limit(at_most)\n        .with_for_update()",
        "        .limit(at_most)",
        ON_POSTGRESQL,
    ),
    Fault(
        "registering-does-not-wait-for-postings",
        "streams/payouts/runs.py",
        "        await take_book_alone(connection)\n",
        "",
        ON_POSTGRESQL,
    ),
)
