"""A cable between two servers that can be cut: forwards TCP on loopback, bytes as they are."""

import selectors
import socket
import threading


class Cable:
    """Connections to 127.0.0.1:`port` go on to @target_port while the cable is whole."""

    def __init__(self, target_port):
        self.target_port = target_port
        self.whole = True
        self.carried = 0
        self.lock = threading.Lock()
        self.open = set()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                visitor, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(visitor,), daemon=True).start()

    def _carry(self, visitor):
        try:
            target = socket.create_connection(("127.0.0.1", self.target_port), timeout=10) if self.whole else None
        except OSError:
            target = None
        if target is None:
            visitor.close()
            return
        with self.lock:
            self.carried += 1
            self.open |= {visitor, target}
        with selectors.DefaultSelector() as ready:
            ready.register(visitor, selectors.EVENT_READ, target)
            ready.register(target, selectors.EVENT_READ, visitor)
            try:
                while True:
                    for key, _ in ready.select():
                        data = key.fileobj.recv(65536)
                        if not data:
                            raise ConnectionError
                        key.data.sendall(data)
            except (OSError, ValueError):
                pass
        with self.lock:
            self.open -= {visitor, target}
        visitor.close()
        target.close()

    def cut(self):
        """From now on nothing passes, in connections that stand neither."""
        self.whole = False
        with self.lock:
            for end in self.open:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def mend(self):
        self.whole = True

    def close(self):
        self.cut()
        self.listener.close()
