"""A model that needs nothing beside it: an HTTP server that is linked whole."""

import subprocess
from pathlib import Path

SOURCE = r"""
#include <arpa/inet.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char answer[] =
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nmodel";

int main(void) {
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(atoi(getenv("PORT")))};
    int on = 1, listening = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listening, (struct sockaddr *)&here, sizeof here) || listen(listening, 16)) return 1;
    signal(SIGTERM, _exit);
    for (;;) {
        char asked[4096];
        int caller = accept(listening, NULL, NULL);
        if (caller < 0) continue;
        if (read(caller, asked, sizeof asked) > 0) write(caller, answer, strlen(answer));
        shutdown(caller, SHUT_WR);
        close(caller);
    }
}
"""


def build(folder: Path) -> Path:
    """Return the program, which listens on `$PORT` and answers `model` to whatever is asked."""
    source, made = folder / "model.c", folder / "model"
    source.write_text(SOURCE)
    command = ["gcc", "-O1", "-static", "-o", str(made), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    return made
