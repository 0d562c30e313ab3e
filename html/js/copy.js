// A "Copy" button beside each command, where the browser allows it.

if (navigator.clipboard) {
  for (const command of document.querySelectorAll(".commands code")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    button.setAttribute("aria-label", `Copy: ${command.textContent}`);
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(command.textContent);
        button.textContent = "Copied";
      } catch {
        button.textContent = "Refused";
      }
      setTimeout(() => (button.textContent = "Copy"), 1600);
    });
    command.parentElement.append(button);
  }
}
