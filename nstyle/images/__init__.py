"""Pictures: reading and writing files, sizes, colours; the only room that imports Pillow.

A picture in memory is a float32 array (height, width, 3), RGB in sRGB, from 0 (black) to 1 (white).
"""

from nstyle.images.reading import MAX_PIXELS as MAX_PIXELS
from nstyle.images.reading import MAX_RECEIVED_PIXELS as MAX_RECEIVED_PIXELS
from nstyle.images.reading import READ as READ
from nstyle.images.reading import Header as Header
from nstyle.images.reading import decode as decode
from nstyle.images.reading import header as header
from nstyle.images.reading import load as load
from nstyle.images.reading import load_deep as load_deep
from nstyle.images.reading import of_pillow as of_pillow
from nstyle.images.reading import read_metadata as read_metadata
from nstyle.images.reading import received as received
from nstyle.images.sizes import SIDES as SIDES
from nstyle.images.sizes import area_average as area_average
from nstyle.images.sizes import parse_percent as parse_percent
from nstyle.images.sizes import parse_size as parse_size
from nstyle.images.sizes import resize as resize
from nstyle.images.sizes import rotate as rotate
from nstyle.images.sizes import scaled_size as scaled_size
from nstyle.images.sizes import times as times
from nstyle.images.sizes import to_float as to_float
from nstyle.images.sizes import to_pillow as to_pillow
from nstyle.images.writing import FORMATS as FORMATS
from nstyle.images.writing import MAX_JPEG_SIDE as MAX_JPEG_SIDE
from nstyle.images.writing import check_format as check_format
from nstyle.images.writing import contact_sheet as contact_sheet
from nstyle.images.writing import data_uri as data_uri
from nstyle.images.writing import drawn as drawn
from nstyle.images.writing import parse_colour as parse_colour
from nstyle.images.writing import save as save
