"""Colour profiles, and the colours that numbers mean by them."""

import struct

import numpy as np
from PIL import ImageCms

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

#: X, Y and Z of the primaries, adapted to D50: as columns.
TO_XYZ = {
    "srgb": [[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.7141]],
    "p3": [[0.51512, 0.29198, 0.1571], [0.2412, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]],
}


def number(value):
    """A number with 16 bits behind the point, as profiles have them."""
    return struct.pack(">i", round(value * 2**16))


def display_p3():
    """The profile of sRGB with the primaries of Display P3."""
    profile = bytearray(SRGB)
    for tag, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), np.transpose(TO_XYZ["p3"]), strict=True):
        at, size = struct.unpack(">II", profile[(entry := profile.index(tag) + 4) : entry + 8])
        profile[at : at + size] = b"XYZ \0\0\0\0" + b"".join(map(number, column))
    return bytes(profile)


def grey_gamma():
    """A grey profile of gamma 1.8."""
    tags = {
        b"wtpt": b"XYZ \0\0\0\0" + b"".join(map(number, (0.9642, 1.0, 0.8249))),
        b"kTRC": b"curv\0\0\0\0" + struct.pack(">IHH", 1, round(1.8 * 256), 0),
    }
    table, body = struct.pack(">I", len(tags)), b""
    for tag, content in tags.items():
        table += tag + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(content))
        body += content
    head = struct.pack(">I4s4s4s4s4s", 132 + len(table[4:]) + len(body), b"", b"\2\x40\0\0",
                       b"mntr", b"GRAY", b"XYZ ")  # fmt: skip
    head = head.ljust(36, b"\0") + b"acsp"
    head = head.ljust(68, b"\0") + b"".join(map(number, (0.9642, 1.0, 0.8249)))
    return head.ljust(128, b"\0") + table + body


PROFILES = {
    "none": b"",
    "srgb": SRGB,
    "p3": display_p3(),
    "grey": grey_gamma(),
    "broken": b"not a profile",
    "lab": ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes(),
}


def linear(values):
    """Numbers of sRGB's tone curve as light."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def encoded(light):
    """Light as numbers of sRGB, from 0 to 1."""
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def meant(values, profile):
    """The colours in sRGB, from 0 to 1, that numbers from 0 to 1 (height, width, 3) mean."""
    if profile == "grey":
        light = values**1.8
    elif profile == "p3":
        light = linear(values) @ (np.linalg.inv(TO_XYZ["srgb"]) @ TO_XYZ["p3"]).T
    else:
        return values
    return encoded(light)
