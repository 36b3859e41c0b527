// What long commands say on standard error, where it is a terminal and where it is not.

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "reference/run_olmoe.hpp"
#include "reference/temp_dir.hpp"

namespace {

/// A terminal of so many columns: what was written to it can be read from the other end.
class Terminal {
 public:
  explicit Terminal(unsigned short columns) : master_(::posix_openpt(O_RDWR | O_NOCTTY)) {
    REQUIRE(master_ >= 0);
    REQUIRE(::grantpt(master_) == 0);
    REQUIRE(::unlockpt(master_) == 0);
    slave_ = ::open(::ptsname(master_), O_RDWR | O_NOCTTY);  // or reading ends with the program
    REQUIRE(slave_ >= 0);
    const winsize size{.ws_row = 24, .ws_col = columns, .ws_xpixel = 0, .ws_ypixel = 0};
    REQUIRE(::ioctl(master_, TIOCSWINSZ, &size) == 0);
  }
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;
  ~Terminal() {
    ::close(slave_);
    ::close(master_);
  }

  /// Runs olmoe with its standard error, and with `both` its standard output, on the terminal.
  /// Returns what came there.
  std::string run(const std::vector<std::string>& arguments, bool both = false,
                  const std::string& environment = "") {
    const std::string name = ::ptsname(master_);
    std::string command = "env TERM=xterm " + environment + " '" FDROUTE_OLMOE "'";
    for (const std::string& argument : arguments) command += " '" + argument + "'";
    command += both ? " >" + name + " 2>&1" : " >/dev/null 2>" + name;
    int status = -1;
    std::thread program([&] {
      status = std::system(command.c_str());
      const char end = '\004';
      static_cast<void>(::write(slave_, &end, 1));
    });
    std::string text;
    for (char c = 0; ::read(master_, &c, 1) == 1 && c != '\004';) text += c;
    program.join();
    CHECK(status == 0);
    return text;
  }

 private:
  int master_;
  int slave_ = -1;
};

/// The drawings of one line: what stands between what clears it.
std::vector<std::string> drawings(const std::string& text) {
  const std::string clear = "\r\033[K";
  std::vector<std::string> all;
  std::size_t at = text.find(clear);
  while (at != std::string::npos) {
    const std::size_t from = at + clear.size();
    at = text.find(clear, from);
    all.push_back(text.substr(from, at == std::string::npos ? at : at - from));
  }
  return all;
}

}  // namespace

TEST_CASE("perplexity shows one line that fits, with the value so far, and leaves nothing") {
  const TempDir directory;
  const std::string text =
      directory.write("text.txt", read(nano / "text/bible.txt").substr(0, 20000)).string();
  const std::vector<std::string> command{"perplexity", "-m", nano.string(), "-f", text,
                                         "--window",   "32", "-t",          "1"};
  for (const int columns : {40, 80, 200}) {
    CAPTURE(columns);
    Terminal terminal(static_cast<unsigned short>(columns));
    const std::string shown = terminal.run(command);
    CHECK(shown.starts_with("\r\033[K"));
    CHECK(shown.ends_with("\r\033[K"));
    CHECK(shown.find('\n') == std::string::npos);
    const auto lines = drawings(shown);
    REQUIRE(lines.size() >= 3);
    for (const std::string& line : lines) {
      CAPTURE(line);
      CHECK(line.size() < static_cast<std::size_t>(columns));
      CHECK((line.empty() || line.find(" windows") != std::string::npos));
    }
    const std::string& last = lines[lines.size() - 2];
    CHECK((last.find("perplexity ") != std::string::npos) == (columns >= 80));
    CHECK((last.find(" +- ") != std::string::npos) == (columns >= 80));
    // The very last window may be drawn, too.
    CHECK((last.find(" left") != std::string::npos || last.find("done in ") != std::string::npos));
  }
  std::vector<std::string> quiet = command;
  quiet.emplace_back("-q");
  CHECK(Terminal(80).run(quiet).empty());
  // Elsewhere plain lines, if it takes more than a few seconds.
  for (const std::string& text_of :
       {Terminal(80).run(command, false, "TERM=dumb"), run_olmoe(command).err}) {
    CAPTURE(text_of);
    CHECK(text_of.find('\033') == std::string::npos);
    CHECK((text_of.empty() || text_of.starts_with("perplexity: ")));
    CHECK((text_of.empty() || text_of.ends_with('\n')));
  }
}

/// How often work begins: bars that stand at 0.
std::size_t beginnings(const std::string& shown) {
  std::size_t n = 0;
  for (std::size_t at = shown.find("] 0/"); at != std::string::npos;
       at = shown.find("] 0/", at + 1))
    ++n;
  return n;
}

TEST_CASE("what calibrate does after the fit, and ablate, show their progress too") {
  const TempDir directory;
  const std::string text =
      directory.write("text.txt", read(nano / "text/bible.txt").substr(0, 1200)).string();
  const std::string out = (directory.path() / "out.safetensors").string();
  const std::vector<std::string> fit{"calibrate", "-m", nano.string(), "-f", text,
                                     "-o",        out,  "--window",    "32"};
  const auto with = [&](std::initializer_list<const char*> more) {
    std::vector<std::string> command = fit;
    command.insert(command.end(), more.begin(), more.end());
    return beginnings(Terminal(80).run(command));
  };
  CHECK(with({}) == 1);
  // Five exponents or more are tried.
  CHECK(with({"--fit-mass", "--policy", "topk:k=3"}) >= 6);
  // Recording twice, the model's own routing, a candidate's solving and measuring.
  CHECK(with({"--held-out", text.c_str(), "--max-loss", "1.001"}) >= 5);
  const std::string ablated = Terminal(80).run({"ablate", "-m", nano.string(), "-f", text,
                                                "--tokens", "6", "--context", "8", "--ahead", "2"});
  CHECK(beginnings(ablated) == 1);
  CHECK(ablated.find(" tokens") != std::string::npos);
}

TEST_CASE("calibrate, verify and make-random show their progress too") {
  const TempDir directory;
  const std::string text =
      directory.write("text.txt", read(nano / "text/bible.txt").substr(0, 8000)).string();
  const std::string out = (directory.path() / "out.safetensors").string();
  const auto shows = [&](const std::vector<std::string>& command, const std::string& unit) {
    CAPTURE(command.front());
    const std::string shown = Terminal(80).run(command);
    CHECK(shown.starts_with("\r\033[K"));
    CHECK(shown.ends_with("\r\033[K"));
    CHECK(shown.find(unit) != std::string::npos);
    std::vector<std::string> quiet = command;
    quiet.emplace_back("--quiet");
    if (command.front() == "make-random") std::filesystem::remove_all(directory.path() / "model");
    CHECK(Terminal(80).run(quiet).empty());
  };
  shows({"calibrate", "-m", nano.string(), "-f", text, "-o", out, "--window", "32"}, " windows");
  shows({"verify", "-m", plain.string(), "--capture", (plain / "capture.safetensors").string()},
        " tokens");
  shows({"make-random", "--config", (plain / "config.json").string(), "-o",
         (directory.path() / "model").string()},
        "kB");
}

TEST_CASE("a sweep ends with a table on a terminal, and with the report's path alone elsewhere") {
  const TempDir directory;
  const std::string text =
      directory.write("text.txt", read(nano / "text/bible.txt").substr(0, 1500)).string();
  const std::string grid = directory.write("grid.txt", "top_p:p=0.5\n").string();
  const auto command = [&](const std::string& out) {
    return std::vector<std::string>{
        "sweep", "-m", nano.string(), "-o",         (directory.path() / out).string(),
        "-f",    text, "--grid",      grid,         "--window",
        "32",    "-n", "0",           "--shuffles", "1",
        "-t",    "1"};
  };
  const std::string shown = Terminal(100).run(command("a"), true);
  const std::size_t head = shown.find("configuration ");
  REQUIRE(head != std::string::npos);
  CHECK(shown.find("topk_8_baseline", head) != std::string::npos);
  CHECK(shown.find("\033[1mconfiguration") != std::string::npos);
  CHECK(shown.find("grid_report.md", head) != std::string::npos);
  const std::string plain_text = Terminal(100).run(command("b"), true, "NO_COLOR=1");
  CHECK(plain_text.find("configuration ") != std::string::npos);
  CHECK(plain_text.find("\033[1m") == std::string::npos);
  const Outcome piped = run_olmoe(command("c"));
  CHECK(piped.out == (directory.path() / "c/grid_report.md").string() + "\n");
  CHECK(piped.err.find("[1/") != std::string::npos);
}
