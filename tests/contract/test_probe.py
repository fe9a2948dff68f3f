from __future__ import annotations
import pytest
from contracts.tasks import *
from contracts.accounting import *
from contracts.workers import *
from contracts.message import Message
from tests.contract.cast import *
from streams.contract_kit.sending import *

async def show(c):
    print("EMITTED"); print(c._history.account())

async def test_a(contract):
    await contract.given(worker(ADA))
    await contract.when(CreateTask(task_id=T1,title="x"), headers={"ce_correlationid": ""})
    await show(contract); assert 0
async def test_b(contract):
    await contract.given(worker(ADA))
    s=await contract.when(CreateTask(task_id=T1,title="x"))
    await contract.when(CompleteTask(task_id=T1,worker_id=ADA), id=s.id)
    await show(contract); print(contract._counts); assert 0
async def test_c(contract):
    await contract.given(worker(ADA))
    s=await contract.when_raw("tasks.commands", CreateTask(task_id=T1,title="x").encode(), headers_of(CreateTask), key=None)
    await show(contract)
    s=await contract.when_raw("tasks.commands", CreateTask(task_id=T1,title="x").encode(), headers_of(CreateTask), key=None)
    await show(contract); assert 0
async def test_d(contract):
    # wrong topic: adjust on tasks.commands; workers on tasks.commands
    await contract.given(worker(ACE,"admin"), worker(ADA))
    s=await contract.when_raw("tasks.commands", AdjustBalance(worker_id=ADA, amount_minor=5, currency="USD", note="", requested_by=ACE).encode(), headers_of(AdjustBalance), key=ADA)
    await show(contract); print(contract._counts)
    s=await contract.when_raw("accounting.commands", CreateTask(task_id=T1,title="x").encode(), headers_of(CreateTask), key=T1)
    await show(contract); print(contract._counts)
    s=await contract.when_raw("accounting.commands", TaskAssigned(task_id=T1,assignment_id=A1,worker_id=ADA,reason="created").encode(), headers_of(TaskAssigned), key=T1)
    await show(contract); print(contract._counts); assert 0
async def test_e(contract):
    # event claims someone else's source
    await contract.given(worker(ADA))
    s=await contract.when(CreateTask(task_id=T1,title="x"), headers={"ce_time":"2026-11-22T10:00:00.123999+02:00"})
    await show(contract); assert 0
async def test_f(contract):
    await contract.given(worker(ADA))
    s=await contract.when(CreateTask(task_id=T1,title="x"), headers={"traceparent":b"\xff"})
    await show(contract)
    s=await contract.when(CreateTask(task_id=T2,title="x"), headers={"traceparent":"x"*400})
    await show(contract)
    s=await contract.when(CreateTask(task_id=T3,title="x"), headers={"ce_unknownext":"x"*400, "ce_bin": b"\xff"})
    await show(contract); assert 0
async def test_g(contract):
    await contract.given(worker(ADA))
    s=await contract.when(CreateTask(task_id=T1,title="x"), headers={"ce_type":"x"*300})
    await show(contract)
    s=await contract.when(CreateTask(task_id=T1,title="x"), key="k"*5000)
    await show(contract); assert 0
