"""A stand-in for PKB, with PKB's surprising habits; it shares no code with the gateway."""

from gateway.simulator.aggregated_resources import PLACER_SYSTEM
from gateway.simulator.customers import (
    AGGREGATED_READER,
    BOX,
    BRADFORD,
    CLIENTS,
    CUSTOMERS,
    EVERY_CUSTOMER,
    GATEWAY,
    HL7_CREDENTIALS,
    LEEDS,
    STRANGER,
    Client,
    Customer,
    Hl7Credentials,
)
from gateway.simulator.demo import DemoAppointment
from gateway.simulator.resources import CARDIOLOGY, ENDOCRINOLOGY, NHS_NUMBER, PRIVACY_LABEL, SNOMED
from gateway.simulator.server import Simulator

__all__ = [
    "AGGREGATED_READER",
    "BOX",
    "BRADFORD",
    "CARDIOLOGY",
    "CLIENTS",
    "CUSTOMERS",
    "ENDOCRINOLOGY",
    "EVERY_CUSTOMER",
    "GATEWAY",
    "HL7_CREDENTIALS",
    "LEEDS",
    "NHS_NUMBER",
    "PLACER_SYSTEM",
    "PRIVACY_LABEL",
    "SNOMED",
    "STRANGER",
    "Client",
    "Customer",
    "DemoAppointment",
    "Hl7Credentials",
    "Simulator",
]
