"""The invariants of the audit as SQL: each statement gives the rows that break it, so that no row is good news.

Invariant: every statement reads one consistent state by itself, runs on SQLite and on PostgreSQL, and contains nothing
from outside. `{texts}` stands for the dialect's way to read the parameter `:parked_tasks`, a JSON array, as rows.
"""

from __future__ import annotations

from streams.inspection.check import Check
from streams.inspection.payout_checks import PAYOUT_CHECKS

__all__ = ["CHECKS", "SETTLED_CHECKS", "Check"]


_KIT = (
    Check(
        "conservation",
        "every record that was taken was handled, a duplicate, parked or discarded",
        """
        SELECT group_name, topic, "partition", consumed, handled, duplicate, parked, discarded
        FROM progress
        WHERE consumed <> handled + duplicate + parked + discarded
        """,
    ),
    Check(
        "parked-counted",
        "the unresolved parked records are as many as each partition's progress says",
        """
        SELECT p.group_name, p.topic, p."partition", p.parked AS counted, coalesce(u.found, 0) AS found
        FROM progress p
        LEFT JOIN (
            SELECT group_name, topic, "partition", count(*) AS found
            FROM parked WHERE resolved_at_ms IS NULL GROUP BY group_name, topic, "partition"
        ) u ON u.group_name = p.group_name AND u.topic = p.topic AND u."partition" = p."partition"
        WHERE p.parked <> coalesce(u.found, 0)
        UNION ALL
        SELECT k.group_name, k.topic, k."partition", 0 AS counted, count(*) AS found
        FROM parked k
        WHERE k.resolved_at_ms IS NULL AND NOT EXISTS (
            SELECT 1 FROM progress p
            WHERE p.group_name = k.group_name AND p.topic = k.topic AND p."partition" = k."partition"
        )
        GROUP BY k.group_name, k.topic, k."partition"
        """,
    ),
    Check(
        "nothing-lost",
        "no record was removed by retention before it was read, unless an operator has acknowledged it",
        'SELECT group_name, topic, "partition", lost FROM progress WHERE lost <> lost_acknowledged',
    ),
    Check(
        "nothing-skipped",
        "no record is missing for an unknown reason, unless an operator has acknowledged it",
        'SELECT group_name, topic, "partition", skipped FROM progress WHERE skipped <> skipped_acknowledged',
    ),
    Check(
        "emitted-once",
        "no event was written to the outbox twice",
        "SELECT message_id, count(*) AS times FROM outbox GROUP BY message_id HAVING count(*) > 1",
    ),
)

_LEDGER = (
    Check(
        "balance-is-sum",
        "an account's balance is the sum of its postings",
        """
        SELECT a.worker_id, a.balance_minor, coalesce(sum(t.signed_minor), 0) AS postings_minor
        FROM ledger_account a LEFT JOIN ledger_transfer t ON t.worker_id = a.worker_id
        GROUP BY a.worker_id, a.balance_minor
        HAVING a.balance_minor <> coalesce(sum(t.signed_minor), 0)
        """,
    ),
    Check(
        "posting-has-account",
        "every posting is on an account that exists",
        """
        SELECT t.transfer_id, t.worker_id FROM ledger_transfer t
        WHERE t.worker_id IS NOT NULL
            AND NOT EXISTS (SELECT 1 FROM ledger_account a WHERE a.worker_id = t.worker_id)
        """,
    ),
    Check(
        "sequence-gapless",
        "an account's postings are numbered from 1 to its version without a gap",
        """
        SELECT a.worker_id, a.version, count(t.sequence) AS postings, min(t.sequence) AS first, max(t.sequence) AS last
        FROM ledger_account a LEFT JOIN ledger_transfer t ON t.worker_id = a.worker_id
        GROUP BY a.worker_id, a.version
        HAVING count(t.sequence) <> a.version OR count(DISTINCT t.sequence) <> a.version
            OR coalesce(min(t.sequence), 1) <> 1 OR coalesce(max(t.sequence), 0) <> a.version
        """,
    ),
    Check(
        "running-balance",
        "the balance after each posting is the sum of the postings up to it",
        """
        SELECT * FROM (
            SELECT worker_id, sequence, balance_after_minor,
                sum(signed_minor) OVER (PARTITION BY worker_id ORDER BY sequence) AS running_minor
            FROM ledger_transfer WHERE worker_id IS NOT NULL
        ) r WHERE balance_after_minor <> running_minor
        """,
    ),
    Check(
        "entry-consistent",
        "amount, sign, debit, credit and kind of a posting agree",
        """
        SELECT transfer_id, kind, debit_account, credit_account, amount_minor, signed_minor FROM (
            SELECT t.*, 'worker:' || worker_id AS worker,
                CASE kind WHEN 'fee' THEN 'house:fees' WHEN 'reward' THEN 'house:rewards'
                    WHEN 'adjustment' THEN 'house:adjustments' WHEN 'payout' THEN 'house:clearing'
                    WHEN 'payout-reversal' THEN
                        CASE WHEN debit_account = 'house:bank' THEN 'house:bank' ELSE 'house:clearing' END
                    ELSE '?' END AS house
            FROM ledger_transfer t WHERE kind <> 'settlement'
        ) e
        WHERE amount_minor <> abs(signed_minor) OR signed_minor = 0
            OR (signed_minor > 0 AND NOT (debit_account = house AND credit_account = worker))
            OR (signed_minor < 0 AND NOT (debit_account = worker AND credit_account = house))
            OR (kind IN ('fee', 'payout') AND signed_minor > 0)
            OR (kind IN ('reward', 'payout-reversal') AND signed_minor < 0)
        UNION ALL
        SELECT transfer_id, kind, debit_account, credit_account, amount_minor, signed_minor FROM ledger_transfer
        WHERE kind = 'settlement' AND NOT (
            debit_account = 'house:clearing' AND credit_account = 'house:bank' AND worker_id IS NULL
            AND sequence IS NULL AND signed_minor IS NULL AND balance_after_minor IS NULL
        )
        """,
    ),
    Check(
        "posted-once",
        "nothing was posted twice",
        "SELECT source_ref, count(*) AS times FROM ledger_transfer GROUP BY source_ref HAVING count(*) > 1",
    ),
    Check(
        "rewarded-once",
        "a task has at most one reward",
        """
        SELECT task_id, count(*) AS times FROM ledger_transfer WHERE kind = 'reward'
        GROUP BY task_id HAVING count(*) > 1
        """,
    ),
    Check(
        "double-entry",
        "a worker's balance is what the debits and credits of its account say",
        """
        SELECT a.worker_id, a.balance_minor, coalesce(d.derived_minor, 0) AS derived_minor
        FROM ledger_account a LEFT JOIN (
            SELECT account, sum(minor) AS derived_minor FROM (
                SELECT credit_account AS account, amount_minor AS minor FROM ledger_transfer
                UNION ALL SELECT debit_account, -amount_minor FROM ledger_transfer
            ) sides GROUP BY account
        ) d ON d.account = 'worker:' || a.worker_id
        WHERE a.balance_minor <> coalesce(d.derived_minor, 0)
        """,
    ),
    Check(
        "books-balance",
        "debits and credits of all accounts, the workers' as stored, add up to nothing",
        """
        SELECT workers_minor, house_minor FROM (
            SELECT (SELECT coalesce(sum(balance_minor), 0) FROM ledger_account) AS workers_minor,
                (SELECT coalesce(sum(minor), 0) FROM (
                    SELECT credit_account AS account, amount_minor AS minor FROM ledger_transfer
                    UNION ALL SELECT debit_account, -amount_minor FROM ledger_transfer
                ) sides WHERE account NOT LIKE 'worker:%') AS house_minor
        ) totals WHERE workers_minor + house_minor <> 0
        """,
    ),
    Check(
        "one-currency",
        "all postings are in one currency",
        """
        SELECT currency, count(*) AS postings FROM ledger_transfer
        WHERE (SELECT count(DISTINCT currency) FROM ledger_transfer) > 1 GROUP BY currency
        """,
    ),
    Check(
        "priced",
        "fees and rewards are the prices of their tasks",
        """
        SELECT t.transfer_id, t.kind, t.task_id, t.signed_minor, p.fee_minor, p.reward_minor
        FROM ledger_transfer t LEFT JOIN accounting_price p ON p.task_id = t.task_id
        WHERE t.kind IN ('fee', 'reward') AND (p.task_id IS NULL
            OR (t.kind = 'fee' AND t.signed_minor <> -p.fee_minor)
            OR (t.kind = 'reward' AND t.signed_minor <> p.reward_minor))
        """,
    ),
    Check(
        "period-not-before-date",
        "a posting counts for the business day of its cause or a later one; a payout for the one that it pays",
        """
        SELECT transfer_id, period, business_date FROM ledger_transfer
        WHERE period < business_date AND kind NOT IN ('payout', 'settlement')
        """,
    ),
)

CHECKS = _KIT + _LEDGER + PAYOUT_CHECKS
"""True at every commit."""

SETTLED_CHECKS = (
    Check(
        "assignment-charged",
        "every assignment was charged to its worker, unless a parked record is in the way",
        """
        SELECT a.assignment_id, a.task_id, a.worker_id FROM tasks_assignment a
        WHERE NOT EXISTS (
            SELECT 1 FROM ledger_transfer t WHERE t.source_ref = 'fee:' || a.assignment_id
                AND t.kind = 'fee' AND t.worker_id = a.worker_id AND t.task_id = a.task_id
        ) AND a.task_id NOT IN ({texts})
        """,
    ),
    Check(
        "fee-has-assignment",
        "every fee belongs to an assignment",
        """
        SELECT t.transfer_id, t.source_ref FROM ledger_transfer t
        WHERE t.kind = 'fee' AND NOT EXISTS (
            SELECT 1 FROM tasks_assignment a WHERE t.source_ref = 'fee:' || a.assignment_id
        )
        """,
    ),
    Check(
        "completed-rewarded",
        "every completed task was rewarded to its assignee, unless a parked record is in the way",
        """
        SELECT k.task_id, k.assignee FROM tasks_task k
        WHERE k.completed_at_ms IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM ledger_transfer t WHERE t.source_ref = 'reward:' || k.task_id
                AND t.kind = 'reward' AND t.worker_id = k.assignee
        ) AND k.task_id NOT IN ({texts})
        """,
    ),
    Check(
        "reward-has-task",
        "every reward belongs to a completed task",
        """
        SELECT t.transfer_id, t.task_id FROM ledger_transfer t
        WHERE t.kind = 'reward' AND NOT EXISTS (
            SELECT 1 FROM tasks_task k WHERE t.source_ref = 'reward:' || k.task_id AND k.completed_at_ms IS NOT NULL
        )
        """,
    ),
)
"""True whenever everything has settled: the slices agree."""
