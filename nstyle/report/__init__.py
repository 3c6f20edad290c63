"""The report of a sweep: its page, its table, and what they do not show."""

from nstyle.report.report import Member as Member
from nstyle.report.report import Sweep as Sweep
from nstyle.report.report import main as main
from nstyle.report.report import page as page
from nstyle.report.report import read as read
from nstyle.report.report import table as table
from nstyle.report.report import write as write
