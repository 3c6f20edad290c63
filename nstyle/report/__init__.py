"""The report of a sweep: its page, its table, and what they do not show."""

from nstyle.report.command import main as main
from nstyle.report.command import write as write
from nstyle.report.sweep_page import page as page
from nstyle.report.sweeps import Member as Member
from nstyle.report.sweeps import Sweep as Sweep
from nstyle.report.sweeps import read as read
from nstyle.report.tables import table as table
