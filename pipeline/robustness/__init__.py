"""Attacks and certificates, on the float network and on the deployed integers."""

from .ann_victim import AnnVictim
from .attacks import ATTACKS, Strength, named
from .attacks.adaptive import SAPGD, Adaptive
from .attacks.apgd import APGD, TargetedAPGD
from .attacks.attack import Attack, Attacked, Scored, attack, score
from .attacks.ensemble import Ensemble, ensemble_of
from .attacks.gradient import FGSM, PGD, RFGSM, RandomNoise
from .attacks.square import Square
from .attacks.transfer import Transfer, transfer
from .certificates.certificates import ABSTAIN, Certificate, Certified
from .certificates.certify import certify, predict
from .curves import Curve, curve, qte
from .report import RobustnessReport, robustness
from .sanity import Check, Sanity, sanity
from .subject import Subject
from .victims import DeployedVictim, FloatVictim, Victim

__all__ = [
    "ABSTAIN",
    "APGD",
    "ATTACKS",
    "FGSM",
    "PGD",
    "RFGSM",
    "SAPGD",
    "Adaptive",
    "AnnVictim",
    "Attack",
    "Attacked",
    "Certificate",
    "Certified",
    "Check",
    "Curve",
    "DeployedVictim",
    "Ensemble",
    "FloatVictim",
    "RandomNoise",
    "RobustnessReport",
    "Sanity",
    "Scored",
    "Square",
    "Strength",
    "Subject",
    "TargetedAPGD",
    "Transfer",
    "Victim",
    "attack",
    "certify",
    "curve",
    "ensemble_of",
    "named",
    "predict",
    "qte",
    "robustness",
    "sanity",
    "score",
    "transfer",
]
