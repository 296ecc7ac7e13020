"""Every fault, in one registry: what happens, and how it is healed."""

from tests.faults.faults.crowds import CROWDS
from tests.faults.faults.failover import FAILOVER
from tests.faults.faults.ledger import LEDGER
from tests.faults.faults.lines import LINES
from tests.faults.faults.machine import MACHINE
from tests.faults.faults.processes import PROCESSES
from tests.faults.faults.supervisor import SUPERVISOR
from tests.faults.scene import Fault

FAULTS: dict[str, Fault] = {
    fault.name: fault for fault in (*PROCESSES, *LINES, *LEDGER, *FAILOVER, *CROWDS, *MACHINE, *SUPERVISOR)
}
