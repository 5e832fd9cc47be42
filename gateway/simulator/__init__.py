"""A stand-in for PKB, with PKB's surprising habits; it shares no code with the gateway."""

from gateway.simulator.customers import BOX, CLIENTS, CUSTOMERS, GATEWAY, STRANGER, Client, Customer
from gateway.simulator.demo import DemoAppointment
from gateway.simulator.resources import CARDIOLOGY, ENDOCRINOLOGY, NHS_NUMBER, PRIVACY_LABEL, SNOMED
from gateway.simulator.server import Simulator

__all__ = [
    "BOX",
    "CARDIOLOGY",
    "CLIENTS",
    "CUSTOMERS",
    "ENDOCRINOLOGY",
    "GATEWAY",
    "NHS_NUMBER",
    "PRIVACY_LABEL",
    "SNOMED",
    "STRANGER",
    "Client",
    "Customer",
    "DemoAppointment",
    "Simulator",
]
