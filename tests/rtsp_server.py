"""An RTSP camera made of GStreamer, for /usr/bin/python3, which alone has gi; tests/rtsp.py starts and drives it.

Its first line of input is JSON: port, width, height, fps, user, password, colour, textured. Later lines are commands: `go`,
`freeze` (the same picture over and over) and `silence` (no picture, while the connection lives on). A picture is `colour` on
top, or blocks of random colours, others in each of eight pictures; below it, twenty squares, each black or white, write its
number in binary, the lowest bit first.
"""

import json
import random
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

BITS = 20


class Scene:
    """What the camera sees: each picture has a number."""

    def __init__(self, width, height, colour, textured):
        self.mode, self.number = "go", 0
        self._cell, self._left = width // BITS, width - width // BITS * BITS
        self._band = height // 4
        self._tops = [bytes(colour) * (width * (height - self._band))]
        if textured:
            self._tops = [self._texture(random.Random(one), width, height - self._band) for one in range(8)]

    def _texture(self, chance, width, height):
        rows = [
            b"".join(bytes(chance.choices(range(256), k=3)) * 8 for _ in range(width // 8)) for _ in range(height // 8)
        ]
        return b"".join(row * 8 for row in rows) + bytes(3 * width) * (height % 8)

    def picture(self):
        """RGB bytes."""
        self.number += self.mode == "go"
        bits = [self.number >> bit & 1 for bit in range(BITS)]
        row = b"".join((b"\xff" if bit else b"\0") * (3 * self._cell) for bit in bits) + b"\0" * (3 * self._left)
        return self._tops[self.number % len(self._tops)] + row * self._band


def serve(settings):
    Gst.init(None)
    width, height, fps = settings["width"], settings["height"], settings["fps"]
    scene = Scene(width, height, settings["colour"], settings["textured"])
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(str(settings["port"]))
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_shared(True)
    factory.set_launch(
        "( appsrc name=scene is-live=true do-timestamp=true format=time max-buffers=2 leaky-type=downstream "
        f"caps=video/x-raw,format=RGB,width={width},height={height},framerate={fps}/1 ! videoconvert ! "
        "video/x-raw,format=I420 ! x264enc tune=zerolatency speed-preset=ultrafast pass=quant quantizer=18 "
        f"key-int-max={fps} ! rtph264pay name=pay0 pt=96 config-interval=1 )"
    )

    def configure(factory, media):
        scene_source = media.get_element().get_child_by_name("scene")

        def push():
            if scene.mode == "silence":
                return True
            flow = scene_source.emit("push-buffer", Gst.Buffer.new_wrapped(scene.picture()))
            return flow == Gst.FlowReturn.OK or flow == Gst.FlowReturn.FLUSHING

        timer = GLib.timeout_add(1000 // fps, push)
        media.connect("unprepared", lambda media: GLib.source_remove(timer))

    factory.connect("media-configure", configure)
    if settings.get("user"):
        auth = GstRtspServer.RTSPAuth()
        auth.set_supported_methods(2)  # digest
        token = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", "viewer")
        auth.add_digest(settings["user"], settings["password"], token)
        server.set_auth(auth)
        permissions = GstRtspServer.RTSPPermissions()
        permissions.add_permission_for_role("viewer", "media.factory.access", True)
        permissions.add_permission_for_role("viewer", "media.factory.construct", True)
        factory.set_permissions(permissions)
    server.get_mount_points().add_factory("/line", factory)
    if not server.attach(None):
        sys.exit("the port is taken")

    def command(channel, condition):
        line = sys.stdin.readline().strip()
        if not line:
            sys.exit(0)
        scene.mode = line
        print("done", flush=True)
        return True

    GLib.io_add_watch(sys.stdin, GLib.PRIORITY_DEFAULT, GLib.IOCondition.IN | GLib.IOCondition.HUP, command)
    print("ready", flush=True)
    GLib.MainLoop().run()


serve(json.loads(sys.stdin.readline()))
