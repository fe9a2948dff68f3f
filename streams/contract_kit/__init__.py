"""The contract-test kit: for a given command in a given state, the right event with the right data.

```python
async def test_a_task_is_assigned_when_it_is_created(contract):
    await contract.given(WorkerRegistered(worker_id=ADA, ...))
    await contract.when(CreateTask(task_id=T1, title="Repaint"))
    contract.then(TaskCreated(task_id=T1, title="Repaint"), key=T1)
    contract.then(TaskAssigned, task_id=T1, worker_id=ADA, reason="created")
    contract.then_nothing_else()
```
"""
