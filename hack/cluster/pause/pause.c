/* The first process of every pod: it holds the pod's namespaces, collects the
 * children that other processes of the pod leave behind, and ends when asked. */
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void finish(int signal_number) {
  (void)signal_number;
  _exit(0);
}

static void reap(int signal_number) {
  (void)signal_number;
  while (waitpid(-1, NULL, WNOHANG) > 0) {
  }
}

static int handle(int signal_number, void (*handler)(int), int flags) {
  struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
  return sigaction(signal_number, &action, NULL);
}

int main(void) {
  if (handle(SIGINT, finish, 0) || handle(SIGTERM, finish, 0) ||
      handle(SIGCHLD, reap, SA_NOCLDSTOP))
    return EXIT_FAILURE;
  for (;;)
    pause();
}
