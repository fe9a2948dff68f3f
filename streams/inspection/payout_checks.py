"""What is true of payouts and the ledger at every commit, as SQL; see `checks` for the form."""

from __future__ import annotations

from streams.inspection.check import Check

__all__ = ["PAYOUT_CHECKS"]

PAYOUT_CHECKS = (
    Check(
        "payout-reserved",
        "every payout has taken exactly its amount from its worker's account, once",
        """
        SELECT p.payout_id, p.worker_id, p.period, p.amount_minor, t.amount_minor AS posted_minor
        FROM payout p LEFT JOIN ledger_transfer t ON t.source_ref = 'payout:' || p.payout_id || '\\:reserve'
        WHERE t.transfer_id IS NULL OR t.kind <> 'payout' OR t.amount_minor <> p.amount_minor
            OR t.worker_id <> p.worker_id OR t.payout_id <> p.payout_id OR (p.seq = 1 AND t.period <> p.period)
        UNION ALL
        SELECT t.payout_id, t.worker_id, t.period, NULL, t.amount_minor FROM ledger_transfer t
        WHERE t.kind = 'payout' AND NOT EXISTS (
            SELECT 1 FROM payout p WHERE p.payout_id = t.payout_id
                AND t.source_ref = 'payout:' || p.payout_id || '\\:reserve'
        )
        """,
    ),
    Check(
        "payout-settled",
        "exactly the payouts that the bank has booked were moved on to it",
        """
        SELECT p.payout_id, p.state, p.amount_minor, t.amount_minor AS settled_minor
        FROM payout p LEFT JOIN ledger_transfer t ON t.source_ref = 'payout:' || p.payout_id || '\\:settle'
        WHERE (p.state = 'confirmed' AND t.transfer_id IS NULL)
            OR (p.state NOT IN ('confirmed', 'reversed') AND t.transfer_id IS NOT NULL)
            OR (t.transfer_id IS NOT NULL AND (t.amount_minor <> p.amount_minor OR t.kind <> 'settlement'))
        UNION ALL
        SELECT t.payout_id, NULL, NULL, t.amount_minor FROM ledger_transfer t
        WHERE t.kind = 'settlement' AND NOT EXISTS (
            SELECT 1 FROM payout p WHERE p.payout_id = t.payout_id
                AND t.source_ref = 'payout:' || p.payout_id || '\\:settle'
        )
        """,
    ),
    Check(
        "payout-reversed",
        "exactly the reversed payouts are back on their accounts, from where the money was",
        """
        SELECT p.payout_id, p.state, p.amount_minor, t.amount_minor AS reversed_minor, t.debit_account
        FROM payout p
        LEFT JOIN ledger_transfer t ON t.source_ref = 'payout:' || p.payout_id || '\\:reverse'
        LEFT JOIN ledger_transfer s ON s.source_ref = 'payout:' || p.payout_id || '\\:settle'
        WHERE (p.state = 'reversed') <> (t.transfer_id IS NOT NULL)
            OR (t.transfer_id IS NOT NULL AND (t.amount_minor <> p.amount_minor OR t.kind <> 'payout-reversal'
                OR t.worker_id <> p.worker_id OR t.period <> p.reversal_period
                OR t.debit_account <> CASE WHEN s.transfer_id IS NULL THEN 'house:clearing' ELSE 'house:bank' END))
        UNION ALL
        SELECT t.payout_id, NULL, NULL, t.amount_minor, t.debit_account FROM ledger_transfer t
        WHERE t.kind = 'payout-reversal' AND NOT EXISTS (
            SELECT 1 FROM payout p WHERE p.payout_id = t.payout_id
                AND t.source_ref = 'payout:' || p.payout_id || '\\:reverse'
        )
        """,
    ),
    Check(
        "paid-once",
        "of an account and period at most one payout is not reversed, and each later one follows a reversed one",
        """
        SELECT worker_id, period, count(*) AS live, max(seq) AS last_seq FROM payout
        WHERE state <> 'reversed' GROUP BY worker_id, period HAVING count(*) > 1
        UNION ALL
        SELECT p.worker_id, p.period, 0, p.seq FROM payout p WHERE p.seq > 1 AND NOT EXISTS (
            SELECT 1 FROM payout b WHERE b.worker_id = p.worker_id AND b.period = p.period
                AND b.seq = p.seq - 1 AND b.state = 'reversed'
        )
        """,
    ),
    Check(
        "paid-what-was-owed",
        "whoever a run paid is owed nothing more up to its period, by the postings",
        """
        SELECT * FROM (
            SELECT p.payout_id, p.worker_id, p.period, p.amount_minor, (
                SELECT coalesce(sum(t.signed_minor), 0) FROM ledger_transfer t
                WHERE t.worker_id = p.worker_id AND t.period <= p.period
            ) AS left_minor
            FROM payout p WHERE p.seq = 1
        ) owed WHERE left_minor <> 0
        """,
    ),
    Check(
        "everybody-paid",
        "after the latest run that has reserved nobody is owed anything up to its period, unless set aside",
        """
        SELECT t.worker_id, r.period, sum(t.signed_minor) AS owed_minor
        FROM payout_run r JOIN ledger_transfer t ON t.period <= r.period AND t.worker_id IS NOT NULL
        WHERE r.period = (SELECT max(period) FROM payout_run WHERE reserved_at_ms IS NOT NULL)
            AND NOT EXISTS (SELECT 1 FROM payout_set_aside a WHERE a.worker_id = t.worker_id AND a.period = r.period)
        GROUP BY t.worker_id, r.period HAVING sum(t.signed_minor) > 0
        """,
    ),
    Check(
        "clearing-is-open",
        "what lies in clearing is the sum of the payouts that are under way or under review",
        """
        SELECT * FROM (
            SELECT (SELECT coalesce(sum(CASE WHEN credit_account = 'house:clearing' THEN amount_minor
                        ELSE -amount_minor END), 0)
                    FROM ledger_transfer WHERE 'house:clearing' IN (credit_account, debit_account)) AS clearing_minor,
                (SELECT coalesce(sum(amount_minor), 0) FROM payout
                    WHERE state NOT IN ('confirmed', 'reversed')) AS open_minor
        ) totals WHERE clearing_minor <> open_minor
        """,
    ),
    Check(
        "bank-is-confirmed",
        "what the ledger says the bank has paid is the sum of the confirmed payouts",
        """
        SELECT * FROM (
            SELECT (SELECT coalesce(sum(CASE WHEN credit_account = 'house:bank' THEN amount_minor
                        ELSE -amount_minor END), 0)
                    FROM ledger_transfer WHERE 'house:bank' IN (credit_account, debit_account)) AS bank_minor,
                (SELECT coalesce(sum(amount_minor), 0) FROM payout WHERE state = 'confirmed') AS confirmed_minor
        ) totals WHERE bank_minor <> confirmed_minor
        """,
    ),
    Check(
        "completed-is-over",
        "nothing of a completed run is under way, unless an operator has sent it again",
        """
        SELECT r.period, p.payout_id, p.state FROM payout_run r JOIN payout p ON p.period = r.period AND p.seq = 1
        WHERE r.status = 'completed' AND p.next_attempt_at_ms IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM operator_action o WHERE o.action = 'payout-sent-again' AND o.subject = p.payout_id
        )
        """,
    ),
)
