from .app import create_app as create_app
from .batcher import Batcher as Batcher
from .options import ServeOptions as ServeOptions
from .served import Served as Served
from .served import open_served as open_served
